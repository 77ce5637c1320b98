"""Which regions an edge may be told of."""

import msgspec
import pytest

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.subjects import at_hub, hub_domain, hub_mappings
from halfdrop.edge.settings import EdgeSettings, region_names


def settings(hubs: str) -> EdgeSettings:
    known = {"nats_url": "nats://n", "redis_url": "redis://r", "objects_url": "file:///o", "data_dir": "d"}
    return msgspec.convert({**known, "hubs": hubs}, EdgeSettings)


def test_the_first_one_is_home() -> None:
    assert region_names(settings("eu-west,us,ap-1")) == ["eu-west", "us", "ap-1"]


@pytest.mark.parametrize("hubs", ["eu,eu", "local,us", "eu,local"])
def test_a_region_named_twice_and_the_only_one_beside_others_are_refused(hubs: str) -> None:
    with pytest.raises(InvalidInput, match="HALFDROP_EDGE_HUBS"):
        region_names(settings(hubs))


@pytest.mark.parametrize("hubs", ["", "eu,", "EU", "eu us", "to.eu", "a" * 40])
def test_what_cannot_be_a_part_of_a_subject_is_refused(hubs: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        settings(hubs)


def test_only_named_regions_have_subjects_of_their_own() -> None:
    assert (hub_domain("local"), at_hub("local", "jobs.x"), hub_mappings("local")) == ("hub", "jobs.x", {})
    assert at_hub("eu", "jobs.x") == "to.eu.jobs.x"
    assert hub_mappings("eu")["to.eu.jobs.>"] == "jobs.>"
