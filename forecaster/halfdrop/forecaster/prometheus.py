"""Demand out of Prometheus: `query_range` of its HTTP API, a day at a time, a value for each minute.

Source: https://prometheus.io/docs/prometheus/latest/querying/api/ (range queries, the form of answers, their statuses).
"""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping

import httpx
import msgspec
import pandas as pd

from halfdrop.contracts.errors import InvalidInput, PermanentError, TransientError, Unavailable
from halfdrop.forecaster.importing import NAME_DEFAULTS, ImportedRows, read_frame

STEP_S = 60
CHUNK_S = 86_400.0
"""Prometheus answers with at most 11,000 values a series, and with all series in one answer."""

ANSWER_MAX_BYTES = 256 * 2**20
TIMEOUT_S = 60.0
TRIES = 3
RETRY_S = 2.0
SPAN_MAX_S = 800 * 86_400.0


class PrometheusQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked, and what its answer means."""

    url: str
    """Of the server, such as http://prometheus:9090; its API is below api/v1."""

    query: str
    """PromQL; each series of its answer is one of ours, or a part of one."""

    start: float
    end: float
    """Unix seconds."""

    scale: float = 1.0
    """What a value is multiplied with to be mean GPUs of work."""

    labels: Mapping[str, str] = {}
    """Which label of the answer's series tells region, class, model and tier; those of the same names if not said."""

    names: Mapping[str, str] = {}
    """Region, class, model and tier of series that have no such label."""

    token: str = ""
    """Sent as a bearer token."""


class _Series(msgspec.Struct, frozen=True):
    metric: dict[str, str]
    values: list[tuple[float, str]] = []


class _Data(msgspec.Struct, frozen=True):
    resultType: str = ""  # noqa: N815  Prometheus' own name
    result: msgspec.Raw = msgspec.Raw(b"[]")


class _Answer(msgspec.Struct, frozen=True):
    status: str
    data: _Data = _Data()
    errorType: str = ""  # noqa: N815
    error: str = ""


async def fetch_demand(asked: PrometheusQuery, *, now: float, retry_s: float = RETRY_S) -> AsyncIterator[ImportedRows]:
    """Yield the rows of one day after another. Raises InvalidInput, PermanentError, Unavailable."""
    check_query(asked)
    headers = {"Authorization": f"Bearer {asked.token}"} if asked.token else {}
    async with httpx.AsyncClient(headers=headers, timeout=TIMEOUT_S, follow_redirects=True) as client:
        start = math.ceil(asked.start / STEP_S) * float(STEP_S)
        while start < asked.end:
            end = min(start + CHUNK_S, asked.end)
            series = await _fetch_stubbornly(client, asked, start, end - STEP_S, retry_s)
            yield read_series(series, asked, now=now)
            start = end


def check_query(asked: PrometheusQuery) -> None:
    """Raise InvalidInput for a query that cannot be."""
    if not asked.url.startswith(("http://", "https://")):
        raise InvalidInput("--prometheus", got=asked.url, allowed="an address such as http://prometheus:9090")
    if not asked.start < asked.end <= asked.start + SPAN_MAX_S:
        allowed = f"a time after --from, at most {SPAN_MAX_S / 86_400:.0f} days"
        raise InvalidInput("--to", got=f"{asked.end - asked.start:.0f} s after --from", allowed=allowed)
    if not (math.isfinite(asked.scale) and asked.scale > 0):
        raise InvalidInput("--scale", got=asked.scale, allowed="a number above 0")
    unknown = sorted({*asked.labels, *asked.names} - NAME_DEFAULTS.keys())
    if unknown:
        raise InvalidInput("--label", got=", ".join(unknown), allowed=", ".join(NAME_DEFAULTS))


async def _fetch_stubbornly(
    client: httpx.AsyncClient, asked: PrometheusQuery, start: float, last: float, retry_s: float
) -> list[_Series]:
    for tries in range(1, TRIES + 1):
        try:
            return await _fetch(client, asked, start, last)
        except TransientError:
            if tries == TRIES:
                raise
            await asyncio.sleep(retry_s)
    raise AssertionError("unreachable")


async def _fetch(client: httpx.AsyncClient, asked: PrometheusQuery, start: float, last: float) -> list[_Series]:
    form = {"query": asked.query, "start": f"{start:.3f}", "end": f"{last:.3f}", "step": str(STEP_S)}
    url = f"{asked.url.rstrip('/')}/api/v1/query_range"
    body = bytearray()
    try:
        async with client.stream("POST", url, data=form) as answer:  # POST: a query may be longer than an address
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > ANSWER_MAX_BYTES:
                    allowed = f"{ANSWER_MAX_BYTES // 2**20} MiB for a day: sum over labels in the query"
                    raise InvalidInput("--query", got="a larger answer", allowed=allowed)
    except httpx.HTTPError as error:
        raise Unavailable(f"Prometheus at {asked.url} does not answer: {error or type(error).__name__}") from error
    return read_answer(answer.status_code, bytes(body))


def read_answer(status: int, body: bytes) -> list[_Series]:
    """Return the series of an answer. Raises InvalidInput for a bad query, Unavailable for what may pass."""
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except msgspec.MsgspecError as error:
        if status in (401, 403):
            detail = f"Prometheus refuses us ({status}): set HALFDROP_PROMETHEUS_TOKEN"
            raise PermanentError(detail, code="forbidden") from error
        if status >= 500:
            raise Unavailable(f"Prometheus fails with {status}") from error
        raise PermanentError(f"this is not Prometheus' API: {status}, {error}", code="not-prometheus") from error
    if answer.status != "success":
        if answer.errorType in ("timeout", "canceled", "internal", "unavailable") or status >= 500:
            raise Unavailable(f"Prometheus fails: {answer.errorType}: {answer.error}")
        raise InvalidInput("--query", got=answer.error, allowed=f"a query that Prometheus takes ({answer.errorType})")
    if answer.data.resultType != "matrix":
        allowed = "a query whose range gives a matrix of numbers"
        raise InvalidInput("--query", got=answer.data.resultType, allowed=allowed)
    try:
        return msgspec.json.decode(answer.data.result, type=list[_Series])
    except msgspec.MsgspecError as error:
        raise PermanentError(f"Prometheus' answer cannot be read: {error}", code="not-prometheus") from error


def read_series(series: list[_Series], asked: PrometheusQuery, *, now: float) -> ImportedRows:
    """Return rows: series of one name are added up, values that are no numbers are gaps."""
    frames = []
    for each in series:
        named = {
            name: each.metric.get(asked.labels.get(name, name)) or asked.names.get(name, default)
            for name, default in NAME_DEFAULTS.items()
        }
        frame = pd.DataFrame(each.values, columns=["t", "gpus"])
        frames.append(frame.assign(gpus=pd.to_numeric(frame["gpus"], errors="coerce") * asked.scale, **named))
    if not frames:
        frames = [pd.DataFrame(columns=["t", "gpus", *NAME_DEFAULTS]).astype({"t": float, "gpus": float})]
    rows = pd.concat(frames, ignore_index=True).dropna(subset=["gpus"])
    rows["t"] = rows["t"] // STEP_S * STEP_S
    summed = rows.groupby(["t", *NAME_DEFAULTS], as_index=False)["gpus"].sum()
    return read_frame(summed, names={}, now=now)
