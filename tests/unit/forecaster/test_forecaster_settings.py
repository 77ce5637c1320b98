"""Settings of the forecaster: documented, and refused where they cannot be."""

from pathlib import Path

import pytest

from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.settings import PREFIX, ForecasterSettings
from halfdrop.runtime.settings import describe_settings, load_settings

PAGE = Path(__file__).parents[3] / "docs/operations.md"


def load(**given: str) -> ForecasterSettings:
    environ = {f"{PREFIX}{name}": value for name, value in {"OBJECTS_URL": "memory://", **given}.items()}
    return load_settings(ForecasterSettings, prefix=PREFIX, environ=environ)


def test_every_setting_is_documented() -> None:
    page = PAGE.read_text()
    assert [n for n, _, _ in describe_settings(ForecasterSettings, prefix=PREFIX) if f"| `{n}` |" not in page] == []


def test_hubs_are_named_by_their_regions() -> None:
    hubs = load(HUBS="eu=nats://a:4222,us-1=tls://user:secret=1@b:4222").hub_urls
    assert list(hubs.items()) == [("eu", "nats://a:4222"), ("us-1", "tls://user:secret=1@b:4222")]


@pytest.mark.parametrize("hubs", ["", "eu", "eu=", "EU=nats://a:1", "eu=nats://a:1,", "nats://a:1", "eu=a:1"])
def test_what_names_no_hub_is_refused(hubs: str) -> None:
    with pytest.raises(InvalidInput, match="FORECASTER_HUBS"):
        load(HUBS=hubs)


def test_a_region_named_twice_is_refused() -> None:
    with pytest.raises(InvalidInput, match="each region once"):
        _ = load(HUBS="eu=nats://a:1,eu=nats://b:1").hub_urls
