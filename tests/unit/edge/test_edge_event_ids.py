"""Going on with a stream: ids that mean the same after a reconnect, and whom there is news for."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfdrop.contracts.jobs import Artifact, JobError, JobState, JobStatus
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.edge.entity_tags import tag_of
from halfdrop.edge.event_ids import Told, read_snapshot, read_told, snapshot_of
from halfdrop.edge.prediction_streams import Event, tell_as_replicate
from halfdrop.edge.predictions import Prediction, make_prediction
from halfdrop.runtime.entity_tags import matches_tag

STATUS = JobStatus(
    id="0" * 26, origin="test", state=JobState.PROCESSING, spec=PatternSpec(prompt="dots", model_digest="d" * 64),
    size_px=1024, pattern_key="ab" * 16, created_at=1_700_000_000.0, started_at=1_700_000_001.0, attempt=1,
    step=2, steps=8, stage="master", log=("sampling: 0.31 s",),
)  # fmt: skip
FILES = tuple(
    Artifact(name=name, path=f"jobs/local/x/{name}", media_type="image/png", size_bytes=1, sha256="0" * 64)
    for name in ("master.png", "pattern.svg", "proof.png", "plate-1-ff0000.png")
)


def changed(**members: object) -> JobStatus:
    return msgspec.structs.replace(STATUS, **members)


DONE = changed(state=JobState.COMPLETED, artifacts=FILES, log=(*STATUS.log, "master: 0.2 s", "master: 0.2 s"))


def predict(status: JobStatus) -> Prediction:
    return make_prediction(status, model="house", base_url="http://h", queue_position=None, now=1_700_000_002.0)


def tell(status: JobStatus, seen: str = "") -> list[Event]:
    return list(tell_as_replicate(status, predict(status), read_told(seen)))


@pytest.mark.parametrize(
    "newer",
    [changed(step=3), changed(attempt=2, step=0), changed(state=JobState.RETRYING), changed(state=JobState.CANCELED)],
)
def test_a_later_snapshot_covers_an_earlier_one_and_not_the_other_way_round(newer: JobStatus) -> None:
    assert snapshot_of(newer).covers(snapshot_of(STATUS))
    assert not snapshot_of(STATUS).covers(snapshot_of(newer))


@pytest.mark.parametrize("same_step", [changed(stage="proof"), changed(log=("a", "b"))])
def test_whatever_else_changes_is_news_too(same_step: JobStatus) -> None:
    assert not snapshot_of(STATUS).covers(snapshot_of(same_step))
    assert snapshot_of(STATUS).covers(snapshot_of(changed()))


def test_ids_survive_being_written_down() -> None:
    assert read_snapshot(str(snapshot_of(STATUS))) == snapshot_of(STATUS)
    told = Told().after("a line")._replace(phase=1, files=3)
    assert read_told(str(told)) == told


@given(st.text() | st.from_regex(r"[sr][0-9]{1,12}(-[0-9]{1,12}){3,4}"))
def test_any_other_id_means_that_nothing_was_told(text: str) -> None:
    snapshot, told = read_snapshot(text), read_told(text)
    assert snapshot is None or str(snapshot) == text
    assert told == Told() or str(told) == text


def test_a_stream_that_broke_anywhere_goes_on_there_with_nothing_twice_and_nothing_missing() -> None:
    events = tell(DONE)
    assert [event.name for event in events] == ["logs"] * 3 + ["output"] * 4 + ["done"]
    assert len({event.id for event in events}) == len(events)
    for place, event in enumerate(events, 1):
        assert tell(DONE, event.id) == events[place:]


def test_what_came_while_nobody_listened_is_told_afterwards() -> None:
    (line,) = tell(STATUS)
    assert tell(STATUS, line.id) == []
    assert [event.name for event in tell(DONE, line.id)] == ["logs"] * 2 + ["output"] * 4 + ["done"]
    failed = changed(state=JobState.FAILED, error=JobError(code="x", detail="broken"))
    assert [event.name for event in tell(failed, line.id)] == ["error", "done"]


def test_a_log_that_lost_its_oldest_lines_is_gone_on_with_after_the_last_one_told() -> None:
    long = changed(log=tuple(f"line {number}" for number in range(64)))
    last = tell(long)[-1]
    shifted = changed(log=tuple(f"line {number}" for number in range(2, 66)))
    assert [event.data for event in tell(shifted, last.id)] == [b"line 64", b"line 65"]


def test_a_tag_changes_with_what_is_told_and_not_with_each_second() -> None:
    def tag(status: JobStatus, now: float = 0.0, **members: object) -> str:
        prediction = msgspec.structs.replace(predict(status), **{"eta_seconds": 41.0, **members})
        return tag_of(prediction, signed_for_s=3600.0, now=now)

    assert tag(STATUS) == tag(STATUS, eta_seconds=44.0, now=1000.0)
    assert len({tag(STATUS), tag(changed(step=3)), tag(STATUS, eta_seconds=46.0), tag(STATUS, now=1800.0)}) == 4


def test_if_none_match_is_compared_weakly() -> None:
    assert all(matches_tag(sent, 'W/"a"') for sent in ('W/"a"', '"a"', '"b", W/"a"', "*"))
    assert not any(matches_tag(sent, 'W/"a"') for sent in ("", '"b"', "a", 'W/"ab"'))
