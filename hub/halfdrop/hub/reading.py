"""The boundary: bytes from JOBS become a job that can be trusted, or are refused."""

import re

import msgspec

from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.jobs import Job, colourways_of, decode_job, formats_of, printing_of
from halfdrop.contracts.patterns import check_size_px, pattern_key
from halfdrop.contracts.plates import check_plates
from halfdrop.contracts.printing import check_colourways, check_printing

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")


def read_job(data: bytes) -> Job:
    """Return the job in `data`. Raises PermanentError(bad-job) for anything that is not one.

    Its id, tenant and origin become subjects and object paths, so they must be plain tokens.
    """
    try:
        job = decode_job(data)
    except msgspec.MsgspecError as error:
        raise PermanentError(f"not a job: {error}", code="bad-job") from error
    for field, token in (("id", job.id), ("tenant", job.tenant), ("origin", job.origin)):
        if not _TOKEN.fullmatch(token):
            detail = f"{field}: got {token[:80]!r}; allowed: 1 to 64 letters, digits, _ and -"
            raise PermanentError(detail, code="bad-job")
    return job


def check_job(job: Job) -> str:
    """Return the key of the job's pattern. Raises PermanentError for what could never be finished: a size, a lattice or
    printing outside the limits, plates that are not whole or belong to another pattern."""
    check_size_px(job.size_px)
    check_printing(printing_of(job), size_px=job.size_px)
    check_colourways(colourways_of(job), formats=len(formats_of(job)))
    if job.spec.repeat != job.spec.repeat.normalise():
        raise PermanentError("repeat: not in its normal form", code="bad-job")
    key = pattern_key(job.spec)
    if job.plates is not None and check_plates(job.plates).pattern_key != key:
        detail = f"plates: got those of pattern {job.plates.pattern_key[:80]}; allowed: those of {key}"
        raise PermanentError(detail, code="bad-plates")
    return key
