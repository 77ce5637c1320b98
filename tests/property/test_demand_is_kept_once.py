"""However reports come (twice, late, cut into any batches, merged at any time), each of them counts once."""

from datetime import date
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from halfdrop.contracts.demand import DemandReport, DemandRow, encode_report
from halfdrop.forecaster.demand_parts import (
    Part,
    choose_parts,
    decode_part,
    encode_part,
    live_path,
    merge_live,
    read_path,
)
from halfdrop.forecaster.demand_rows import Position, Stored, read_batch

MINUTE = 29_000_000
STREAM = "eu.17f300"

TOLD = st.lists(
    st.tuples(
        st.sampled_from(["edge-1", "edge-2"]),
        st.integers(0, 3 * 1440),  # minutes ago
        st.integers(0, 50),  # requests
        st.integers(1, 3),  # how often it comes, in a row
    ),
    max_size=40,
)


def stored(told: list[tuple[str, int, int, int]]) -> list[Stored]:
    """What the stream holds: numbers rise within a member, and a duplicate comes right behind."""
    numbers = {"edge-1": 0, "edge-2": 0}
    found: list[Stored] = []
    for member, ago, requests, times in told:
        numbers[member] += 1
        row = DemandRow(
            region="eu", job_class="bulk", model="house", tier="finish", requests=requests, gpu_s_offered=1.0
        )
        report = DemandReport(member=member, run="r", number=numbers[member], minute=MINUTE - ago, rows=(row,))
        for _ in range(times):
            found.append(Stored(sequence=len(found) + 1, stored_at=(MINUTE + 1) * 60.0, data=encode_report(report)))
    return found


@given(told=TOLD, data=st.data())
@settings(max_examples=60, deadline=None)
def test_each_report_counts_once_however_it_is_cut_and_merged(told: list[tuple[str, int, int, int]], data: Any) -> None:
    messages = stored(told)
    position = Position(stream=STREAM)
    files: dict[str, bytes] = {}
    while position.sequence < len(messages):
        size = data.draw(st.integers(1, 12), label="messages in the batch")
        batch = read_batch(messages[position.sequence : position.sequence + size], position, now=0.0)
        for day, table in batch.tables.items():
            files[live_path(day, STREAM, batch.first, batch.position.sequence)] = encode_part(table)
        position = batch.position
        if data.draw(st.booleans(), label="merge, and be killed before the old ones are removed"):
            _merge(files, is_tidied=data.draw(st.booleans(), label="or not"))
    expected = (sum(requests for _, _, requests, _ in told), float(len(told)))
    assert _totals(files) == expected


def _merge(files: dict[str, bytes], *, is_tidied: bool) -> None:
    for day in sorted({part.day for part in _parts(files)}):
        counting = _counting(files, day)
        if len(counting) < 2:
            continue
        merged = merge_live([decode_part(files[part.path]) for part in counting])
        files[live_path(day, STREAM, counting[0].first, counting[-1].last)] = encode_part(merged)
        for part in counting if is_tidied else counting[::2]:
            del files[part.path]


def _totals(files: dict[str, bytes]) -> tuple[int, float]:
    requests, work = 0, 0.0
    for day in sorted({part.day for part in _parts(files)}):
        for part in _counting(files, day):
            table = decode_part(files[part.path])
            requests += sum(table.column("requests").to_pylist())
            work += sum(table.column("gpu_s_offered").to_pylist())
    return requests, work


def _parts(files: dict[str, bytes]) -> list[Part]:
    return [part for path in files if (part := read_path(path)) is not None]


def _counting(files: dict[str, bytes], day: date) -> list[Part]:
    return choose_parts(part for part in _parts(files) if part.day == day)[0]
