import msgspec
import pytest

from halfdrop.contracts.errors import InvalidInput, PermanentError
from halfdrop.contracts.jobs import Job, encode_job
from halfdrop.contracts.patterns import PatternSpec, pattern_key
from halfdrop.contracts.plates import FIELDS_BYTES, LAYERS, Plates
from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.reading import check_job, read_job

SPEC = PatternSpec(prompt="red dots", repeat=Repeat(units=2), model_digest="0" * 64)
PLATES = Plates(
    pattern_key=pattern_key(SPEC),
    model_digest="0" * 64,
    fields=bytes(FIELDS_BYTES),
    palette=("#ffffff",) * (LAYERS + 1),
)
JOB = Job(id="job1", origin="test", spec=SPEC, size_px=256, plates=PLATES, created_at=1.0)


def test_a_job_is_read_as_it_was_written() -> None:
    assert read_job(encode_job(JOB)) == JOB
    assert check_job(JOB) == pattern_key(SPEC)


@pytest.mark.parametrize("data", [b"", b"\xff", b"{}", b"\x81\xa4type\xa6job.v9", encode_job(JOB)[:-20]])
def test_bytes_that_are_no_job_are_refused(data: bytes) -> None:
    with pytest.raises(PermanentError) as caught:
        read_job(data)
    assert caught.value.code == "bad-job"


@pytest.mark.parametrize("field", ["id", "tenant", "origin"])
@pytest.mark.parametrize("token", ["", "../up", "a.b", "a/b", "a b", "*", ">", "x" * 65])
def test_names_that_would_change_a_path_or_a_subject_are_refused(field: str, token: str) -> None:
    with pytest.raises(PermanentError) as caught:
        read_job(encode_job(msgspec.structs.replace(JOB, **{field: token})))
    assert caught.value.code == "bad-job"


@pytest.mark.parametrize("size_px", [0, 63, 8193, -1])
def test_a_size_outside_the_limits_is_refused(size_px: int) -> None:
    with pytest.raises(InvalidInput):
        check_job(msgspec.structs.replace(JOB, size_px=size_px))


def test_a_lattice_not_in_its_normal_form_is_refused() -> None:
    spec = msgspec.structs.replace(SPEC, repeat=Repeat(layout="half-drop", units=3))
    with pytest.raises(PermanentError) as caught:
        check_job(msgspec.structs.replace(JOB, spec=spec, plates=None))
    assert caught.value.code == "bad-job"


@pytest.mark.parametrize("changes", [{"pattern_key": "f" * 32}, {"fields": b"short"}, {"palette": ("#ffffff",)}])
def test_plates_that_are_broken_or_anothers_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(PermanentError) as caught:
        check_job(msgspec.structs.replace(JOB, plates=msgspec.structs.replace(PLATES, **changes)))
    assert caught.value.code == "bad-plates"
