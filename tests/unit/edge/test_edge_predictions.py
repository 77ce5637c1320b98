"""The prediction object: our states in Replicate's words, and everything else as it is."""

import msgspec
import pytest

from halfdrop.contracts.jobs import Artifact, JobError, JobState, JobStatus
from halfdrop.contracts.patterns import PatternSpec, Wording
from halfdrop.edge.names import is_order_id, new_order_id, object_path, picture_key, plates_key, spec_key
from halfdrop.edge.predictions import guess_seconds_left, make_prediction

KEY = "ab" * 16
STATUS = JobStatus(
    id="0" * 26, origin="test", state=JobState.QUEUED, spec=PatternSpec(prompt="red dots", model_digest="d" * 64),
    size_px=1024, pattern_key=KEY, created_at=1_700_000_000.25,
)  # fmt: skip


def artifact(name: str) -> Artifact:
    return Artifact(name=name, path=f"jobs/local/x/{name}", media_type="image/png", size_bytes=1, sha256="0" * 64)


def describe(status: JobStatus, now: float = 1_700_000_010.0) -> dict[str, object]:
    prediction = make_prediction(status, model="house", base_url="http://h:1", queue_position=0, now=now)
    found: dict[str, object] = msgspec.to_builtins(prediction)
    return found


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (JobState.QUEUED, "starting"),
        (JobState.PROCESSING, "processing"),
        (JobState.RETRYING, "processing"),
        (JobState.COMPLETED, "succeeded"),
        (JobState.FAILED, "failed"),
        (JobState.CANCELED, "canceled"),
    ],
)
def test_states_go_out_in_replicates_words(state: JobState, word: str) -> None:
    found = describe(msgspec.structs.replace(STATUS, state=state))
    assert (found["status"], found["state"]) == (word, state.value)


def test_a_waiting_order_has_no_output_and_its_addresses() -> None:
    found = describe(STATUS)
    assert found["output"] is None
    assert found["created_at"] == "2023-11-14T22:13:20.250Z"
    assert found["started_at"] is found["completed_at"] is found["error"] is None
    address = f"http://h:1/v1/predictions/{STATUS.id}"
    streamed = f"{address}/stream?events=replicate"
    assert found["urls"] == {"get": address, "cancel": f"{address}/cancel", "stream": streamed}


@pytest.mark.parametrize(
    ("state", "queued_at", "said"),
    [
        (JobState.QUEUED, None, "the order is safe at this edge"),
        (JobState.QUEUED, 1_700_000_001.0, "what became of the order is told when it is back"),
        (JobState.PROCESSING, 1_700_000_001.0, "what became of the order is told when it is back"),
    ],
)
def test_while_the_hub_is_away_the_time_left_is_not_guessed_and_the_log_says_why(
    state: JobState, queued_at: float | None, said: str
) -> None:
    status = msgspec.structs.replace(
        STATUS, state=state, queued_at=queued_at, started_at=1_700_000_002.0, step=1, steps=2
    )
    now, away_since = 1_700_000_010.0, 1_700_000_005.0
    known = make_prediction(status, model="house", base_url="http://h:1", queue_position=0, now=now)
    assert (known.eta_seconds is None) == (state is JobState.QUEUED)
    assert known.logs == ""
    unknown = make_prediction(
        status, model="house", base_url="http://h:1", queue_position=0, now=now, hub_away_since=away_since
    )
    assert unknown.eta_seconds is None
    assert unknown.logs.startswith("the hub is away since 2023-11-14T22:13:25.000Z; ")
    assert said in unknown.logs
    done = msgspec.structs.replace(status, state=JobState.COMPLETED)
    assert (
        make_prediction(
            done, model="house", base_url="http://h:1", queue_position=0, now=now, hub_away_since=away_since
        ).logs
        == ""
    )


def test_an_order_says_how_its_words_were_read_before_what_was_done() -> None:
    wording = Wording(read_as={"sunflowers": "daisies"}, unknown_words=("cats", "dogs"))
    found = describe(msgspec.structs.replace(STATUS, wording=wording, log=("composed",)))
    assert (found["read_as"], found["unknown_words"]) == ({"sunflowers": "daisies"}, ("cats", "dogs"))
    assert found["logs"] == (
        'read "sunflowers" as "daisies"\n'
        'left out, with nothing near in the model\'s vocabulary: "cats", "dogs"\n'
        "composed\n"
    )
    plain = describe(STATUS)
    assert (plain["read_as"], plain["unknown_words"], plain["logs"]) == ({}, (), "")


def test_a_finished_order_says_where_its_files_are() -> None:
    names = ("plate-2-ffffff.png", "master.png", "plate-1-ff0000.png", "pattern.svg", "proof.png", "result.json")
    done = msgspec.structs.replace(
        STATUS, state=JobState.COMPLETED, started_at=STATUS.created_at + 1, completed_at=STATUS.created_at + 3.5,
        artifacts=tuple(artifact(name) for name in names),
    )  # fmt: skip
    found = describe(done)
    files = f"http://h:1/v1/predictions/{STATUS.id}/files"
    assert found["output"] == {
        "master": f"{files}/master.png",
        "separations": [f"{files}/plate-1-ff0000.png", f"{files}/plate-2-ffffff.png"],
        "svg": f"{files}/pattern.svg",
        "proof": f"{files}/proof.png",
    }
    assert found["metrics"] == {"predict_time": 2.5, "total_time": 3.5}


def test_colourways_are_told_each_with_all_its_files() -> None:
    names = (
        "master.png", "inks.json", "colourway-1-master.png", "colourway-1-inks.json", "colourway-2-master.png",
        "colourway-2-inks.json", "manifest.json",
    )  # fmt: skip
    done = msgspec.structs.replace(
        STATUS, state=JobState.COMPLETED, artifacts=tuple(artifact(name) for name in names)
    )  # fmt: skip
    files = f"http://h:1/v1/predictions/{STATUS.id}/files"
    output = describe(done)["output"]
    assert output["more"] == [f"{files}/inks.json"]
    assert output["colourways"] == [
        [f"{files}/colourway-1-master.png", f"{files}/colourway-1-inks.json"],
        [f"{files}/colourway-2-master.png", f"{files}/colourway-2-inks.json"],
    ]
    assert output["manifest"] == f"{files}/manifest.json"


def test_formats_that_were_asked_for_are_told_beside_the_usual_files() -> None:
    names = ("separated.tiff", "master.png", "pattern.pdf", "indexed.tiff")
    done = msgspec.structs.replace(
        STATUS, state=JobState.COMPLETED, artifacts=tuple(artifact(name) for name in names)
    )  # fmt: skip
    files = f"http://h:1/v1/predictions/{STATUS.id}/files"
    assert describe(done)["output"]["pdf"] == f"{files}/pattern.pdf"
    assert describe(done)["output"]["tiff"] == [f"{files}/indexed.tiff", f"{files}/separated.tiff"]


def test_an_error_is_told_when_it_is_final_only() -> None:
    error = JobError(code="bad-plates", detail="plates: too short")
    assert describe(msgspec.structs.replace(STATUS, state=JobState.RETRYING, error=error))["error"] is None
    assert describe(msgspec.structs.replace(STATUS, state=JobState.FAILED, error=error))["error"] == "plates: too short"


def test_the_time_left_is_guessed_from_the_steps_done() -> None:
    running = msgspec.structs.replace(STATUS, state=JobState.PROCESSING, started_at=100.0, step=2, steps=8)
    assert guess_seconds_left(running, now=104.0) == 12.0
    assert guess_seconds_left(msgspec.structs.replace(running, step=0), now=104.0) is None
    assert guess_seconds_left(STATUS, now=104.0) is None


def test_ids_sort_by_age_and_have_one_form() -> None:
    ids = [new_order_id() for _ in range(100)]
    assert len(set(ids)) == 100
    assert all(is_order_id(order_id) for order_id in ids)
    assert ids[0][:8] <= ids[-1][:8]
    for wrong in ("", "0" * 25, "0" * 27, "O" * 26, "../" + "0" * 23, "*" * 26, "0" * 25 + "."):
        assert not is_order_id(wrong)


def test_cache_keys_lead_to_their_objects() -> None:
    assert object_path(picture_key(KEY, 512)) == f"patterns/ab/{KEY}/preview-512.webp"
    assert object_path(plates_key(KEY)) == f"patterns/ab/{KEY}/plates.msgpack"
    assert object_path(spec_key(KEY)) == f"patterns/ab/{KEY}/spec.json"
