"""Events of the calendar: what can be one, what it does to demand, and the operator's form of it."""

from typing import Any

import msgspec
import pytest

from halfdrop.contracts.demand_events import (
    DemandEvent,
    check_event,
    decode_events,
    encode_event,
    events_announced,
    uplift_at,
)
from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.plans import AnnouncedDemand, encode_announced

START = 1_790_000_000.0
DROP = DemandEvent(
    id="autumn-drop", name="Autumn drop", kind="drop", start=START, end=START + 7_200, uplift=3.0, region="eu"
)


def test_an_event_is_the_same_after_its_journey() -> None:
    assert decode_events(DROP.id, encode_event(DROP)) == (DROP,)


@pytest.mark.parametrize(
    ("changes", "field", "allowed"),
    [
        ({"end": START + 366 * 86_400}, "end", "31 days"),
        ({"end": START}, "end", "after the start"),
        ({"end": START - 5}, "end", "after the start"),
        ({"end": START + 1}, "end", "1 minute"),
        ({"start": START * 1000, "end": START * 1000 + 7_200}, "start", "Unix seconds"),
        ({"start": float("nan")}, "start", "Unix seconds"),
        ({"end": float("inf")}, "end", "Unix seconds"),
        ({"uplift": 0.0}, "uplift", "0.01 to 1000"),
        ({"uplift": -3.0}, "uplift", "0.01 to 1000"),
        ({"uplift": float("nan")}, "uplift", "0.01 to 1000"),
        ({"uplift": 1001.0}, "uplift", "0.01 to 1000"),
        ({"ramp_s": 7_201.0}, "ramp_s", "0 to 7200"),
        ({"ramp_s": float("nan")}, "ramp_s", "0 to 7200"),
        ({"id": "a..b"}, "id", "autumn-drop"),
        ({"id": "Drop 1"}, "id", "autumn-drop"),
        ({"id": ""}, "id", "autumn-drop"),
        ({"name": " "}, "name", "printable"),
        ({"name": "x\x1b[2J"}, "name", "printable"),
        ({"kind": "big sale"}, "kind", "drop, sale"),
        ({"note": "x" * 513}, "note", "512"),
    ],
)
def test_what_cannot_be_an_event_is_refused_with_what_is_allowed(
    changes: dict[str, Any], field: str, allowed: str
) -> None:
    with pytest.raises(InvalidInput, match=allowed) as caught:
        check_event(msgspec.structs.replace(DROP, **changes))
    assert caught.value.field == field


def test_the_uplift_holds_inside_and_rises_over_the_ramp() -> None:
    slow = msgspec.structs.replace(DROP, ramp_s=600.0)
    assert [uplift_at(DROP, START + at) for at in (-1, 0, 7_199, 7_200)] == [1, 3, 3, 1]
    assert [uplift_at(slow, START + at) for at in (0, 300, 600, 7_000)] == [1, 2, 3, 3]


def test_what_the_operator_announces_is_an_event_for_each_region() -> None:
    announced = AnnouncedDemand(
        name="sale", kind="sale", starts_at=START, ends_at=START + 60, uplift=2.0, regions=("eu", "us"), pools=("h100",)
    )
    eu, us = decode_events("shop.sale", encode_announced(announced))
    assert (eu.id, eu.region, us.id, us.region) == ("shop.sale.eu", "eu", "shop.sale.us", "us")
    assert (eu.kind, eu.uplift, eu.pools) == ("sale", 2.0, ("h100",))
    everywhere = msgspec.structs.replace(announced, regions=())
    assert [(event.id, event.region) for event in events_announced("shop.sale", everywhere)] == [("shop.sale", None)]


def test_an_announcement_of_the_last_release_has_the_usual_kind() -> None:
    old = b'{"type":"announced.v1","name":"drop","starts_at":1790000000,"ends_at":1790003600,"uplift":3}'
    assert decode_events("shop.drop", old)[0].kind == "campaign"
