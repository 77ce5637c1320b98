import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.jobs import (
    Job,
    JobState,
    JobStatus,
    accepted_status,
    decode_job,
    decode_status,
    encode_job,
    encode_status,
    supersedes,
)
from halfdrop.contracts.patterns import PatternSpec, Wording, pattern_key
from halfdrop.contracts.plates import FIELDS_BYTES, Plates, decode_plates, encode_plates
from halfdrop.contracts.tries import Tries
from halfdrop.contracts.work import UNITS_PER_STEP

SPEC = PatternSpec(prompt="dots", model_digest="sha256:0f")
KEY = pattern_key(SPEC)
PLATES = Plates(pattern_key=KEY, model_digest="sha256:0f", fields=bytes(FIELDS_BYTES), palette=("#ffffff",) * 5)
JOB = Job(id="a1", origin="local", spec=SPEC, size_px=4096, plates=PLATES, created_at=1.0)
STATUS = accepted_status(JOB, KEY)

# Golden bytes: a hub of this release must still read what an edge of the previous one left in its outbox.
GOLDEN_STATUS = (
    b'{"type":"status.v1","id":"a1","tenant":"local","origin":"local","state":"queued","job_class":"standard",'
    b'"spec":{"type":"pattern.v1","prompt":"dots","negative_prompt":"","seed":0,"repeat":{"layout":"straight",'
    b'"drop":"","axis":"columns","units":2},"palette":[],"num_inference_steps":4,"guidance_scale":0.0,'
    b'"model_digest":"sha256:0f"},"size_px":4096,"pattern_key":"KEY","attempt":0,"step":0,"steps":0,'
    b'"stage":"","created_at":1.0,"queued_at":null,"started_at":null,"completed_at":null,"worker":"","error":null,'
    b'"artifacts":[],"log":[]}'
)

statuses = st.builds(
    lambda state, attempt, step: msgspec.structs.replace(STATUS, state=state, attempt=attempt, step=step),
    st.sampled_from(JobState),
    st.integers(0, 3),
    st.integers(0, 4),
)


def test_a_job_with_its_plates_survives_the_wire_and_fits_a_message() -> None:
    data = encode_job(JOB)
    assert decode_job(data) == JOB
    assert FIELDS_BYTES < len(data) < FIELDS_BYTES + 1_024


def test_the_bytes_of_a_status_never_change() -> None:
    golden = GOLDEN_STATUS.replace(b"KEY", KEY.encode())
    as_it_was = msgspec.structs.replace(STATUS, work=msgspec.UNSET)
    assert encode_status(as_it_was) == golden
    assert decode_status(golden) == as_it_was


def test_plates_save_a_job_its_sampling() -> None:
    sampled = accepted_status(msgspec.structs.replace(JOB, plates=None), KEY)
    assert STATUS.work == 16.0
    assert sampled.work == 16.0 + 4 * UNITS_PER_STEP


def test_the_wording_of_a_job_is_in_all_its_statuses_and_on_the_wire_only_when_there_is_one() -> None:
    worded = msgspec.structs.replace(JOB, wording=Wording(read_as={"roses": "blossoms"}, unknown_words=("cats",)))
    assert decode_job(encode_job(worded)) == worded
    status = accepted_status(worded, KEY)
    assert status.wording == worded.wording
    assert decode_status(encode_status(status)) == status
    assert b"wording" not in encode_job(JOB)


def test_a_status_with_members_of_a_newer_release_still_decodes() -> None:
    assert decode_status(encode_status(STATUS).replace(b'"log":[]', b'"log":[],"mood":"new"')) == STATUS


@given(st.lists(statuses, min_size=1, max_size=4))
def test_the_order_of_arrival_does_not_change_a_final_state_once_it_is_known(arrivals: list[JobStatus]) -> None:
    for order in itertools.permutations(arrivals):
        known: JobStatus | None = None
        first_final: JobStatus | None = None
        for status in order:
            known = status if supersedes(status, known) else known
            first_final = first_final or (known if known and known.state.is_final else None)
        assert first_final is None or known == first_final


@given(statuses)
def test_applying_a_status_twice_is_harmless(status: JobStatus) -> None:
    assert supersedes(status, None)
    assert status.state.is_final or supersedes(status, status)


def test_progress_of_an_older_attempt_never_overwrites_a_newer_one() -> None:
    newer = msgspec.structs.replace(STATUS, state=JobState.PROCESSING, attempt=2, step=0)
    older = msgspec.structs.replace(STATUS, state=JobState.PROCESSING, attempt=1, step=9)
    assert not supersedes(older, newer)
    assert supersedes(newer, older)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not plates",
        encode_plates(PLATES)[:-1],
        encode_plates(msgspec.structs.replace(PLATES, fields=b"\0" * 10)),
        encode_plates(msgspec.structs.replace(PLATES, palette=("#ffffff",))),
    ],
)
def test_broken_plates_are_refused(data: bytes) -> None:
    with pytest.raises(PermanentError) as caught:
        decode_plates(data)
    assert caught.value.code == "bad-plates"


@given(statuses, statuses, st.integers(1, 3))
def test_a_revival_outranks_all_that_came_before_and_is_outranked_by_none_of_it(
    before: JobStatus, after: JobStatus, revival: int
) -> None:
    revived = msgspec.structs.replace(after, revival=revival)
    assert supersedes(revived, before)
    assert not supersedes(before, revived)


def test_a_job_that_was_never_revived_is_the_bytes_that_it_was() -> None:
    assert b"revival" not in encode_job(JOB)
    assert b"tries" not in encode_status(STATUS)
    revived = msgspec.structs.replace(JOB, revival=2)
    assert decode_job(encode_job(revived)) == revived
    status = msgspec.structs.replace(accepted_status(revived, KEY), tries=Tries(through=2, spent=1.25))
    assert status.revival == 2
    assert decode_status(encode_status(status)) == status
