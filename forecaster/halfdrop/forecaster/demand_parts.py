"""Files of the demand history: their names, which of them count, and what is in them. Pure.

A day is a folder of parts. A live part holds what a compactor read from one stream, from one sequence to another,
summed over members. One part of a stream may hold another's whole range: it was merged out of it, and the other no
longer counts. An imported part counts where nothing was measured; of two imports the newer one.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from io import BytesIO

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

FOLDER = "demand"
MINUTE_MS = 60_000

KEYS = ("minute", "region", "class", "model", "tier")
KNOWN_BY_EDGES = ("requests", "gpu_s_offered")
KNOWN_BY_HUBS = ("gpu_s_served", "replicas")
"""Null where nobody told of them in that minute. The rest is 0 then."""

SCHEMA = pa.schema(
    [
        ("minute", pa.timestamp("ms", tz="UTC")),
        ("region", pa.string()),
        ("class", pa.string()),
        ("model", pa.string()),
        ("tier", pa.string()),
        ("requests", pa.int64()),
        ("gpu_s_offered", pa.float64()),
        ("gpu_s_served", pa.float64()),
        ("late", pa.int64()),
        ("wait_s_sum", pa.float64()),
        ("cold_starts", pa.int64()),
        ("boot_s_sum", pa.float64()),
        ("replicas", pa.float64()),
    ]
)
COLUMNS = tuple(SCHEMA.names)
NAMES = KEYS[1:]
NAME_TYPE = pa.dictionary(pa.int32(), pa.string())
READ_SCHEMA = pa.schema([field.with_type(NAME_TYPE) if field.name in NAMES else field for field in SCHEMA])
"""What a reader has them as: names as numbers into a list, as they lie in the file; a third of the time and memory."""

VALUES = COLUMNS[len(KEYS) :]

VALUE_MAX = {
    **dict.fromkeys(("requests", "late", "cold_starts"), 1e9),
    **dict.fromkeys(("gpu_s_offered", "gpu_s_served"), 6e7),
    **dict.fromkeys(("wait_s_sum", "boot_s_sum"), 1e12),
    "replicas": 1e6,
}
"""A million GPUs, and what they can do in a minute: more is a broken counter, no demand."""

_NAME = re.compile(
    r"part-live-(?P<stream>[a-z0-9-]+\.[0-9a-f]+)-(?P<first>\d+)-(?P<last>\d+)\.parquet"
    r"|part-import-(?P<made>\d+)-[0-9a-f]+\.parquet"
)
_FOLDER = re.compile(rf"{FOLDER}/day=(\d{{4}}-\d\d-\d\d)/([^/]+\.parquet)")


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the history, as its path tells."""

    path: str
    day: date
    stream: str = ""
    """Of a live part: region and creation of the stream that it was read from. Empty: imported."""

    first: int = 0
    last: int = 0
    """Sequences in that stream."""

    made: int = 0
    """Of an imported part: milliseconds since the epoch of the import."""


def day_folder(day: date) -> str:
    """Return the folder of a day."""
    return f"{FOLDER}/day={day.isoformat()}"


def live_path(day: date, stream: str, first: int, last: int) -> str:
    """Return the path of what was read from `stream` (region.creation) between two sequences and belongs to `day`."""
    return f"{day_folder(day)}/part-live-{stream}-{first:012d}-{last:012d}.parquet"


def import_path(day: date, made: int, digest: str) -> str:
    """Return the path of an import; the digest of its content makes a repeated one the same file."""
    return f"{day_folder(day)}/part-import-{made:013d}-{digest}.parquet"


def read_path(path: str) -> Part | None:
    """Return what a path says, or None if it is none of the history's files."""
    place = _FOLDER.fullmatch(path)
    if place is None:
        return None
    try:
        day = date.fromisoformat(place[1])
    except ValueError:
        return None
    name = _NAME.fullmatch(place[2])
    if name is None:
        return Part(path=path, day=day)  # somebody's own file, with the columns that are known: the oldest import
    if name["stream"]:
        return Part(path=path, day=day, stream=name["stream"], first=int(name["first"]), last=int(name["last"]))
    return Part(path=path, day=day, made=int(name["made"]))


def choose_parts(parts: Iterable[Part]) -> tuple[list[Part], list[Part]]:
    """Return (live parts that count, imports from the oldest to the newest) of one day."""
    live: list[Part] = []
    known = list(parts)
    # The widest first: what lies within one that counts was merged into it.
    for part in sorted((p for p in known if p.stream), key=lambda p: (p.stream, p.first, -p.last)):
        if not (live and live[-1].stream == part.stream and part.last <= live[-1].last):
            live.append(part)
    return live, sorted((p for p in known if not p.stream), key=lambda p: (p.made, p.path))


def encode_part(table: pa.Table) -> bytes:
    """Return the Parquet form of rows of one day, by minute and series."""
    sink = BytesIO()
    ordered = table.select(COLUMNS).cast(SCHEMA).sort_by([(name, "ascending") for name in KEYS])
    pq.write_table(ordered, sink, compression="zstd")
    return sink.getvalue()


def decode_part(data: bytes) -> pa.Table:
    """Return the rows of a part, in READ_SCHEMA.

    Raises ValueError for what is none: damaged, or without a column that it needs.
    """
    try:
        table = pq.read_table(BytesIO(data), read_dictionary=list(NAMES))
        missing = [name for name in (*KEYS, "gpu_s_offered") if name not in table.column_names]
        if missing:
            raise ValueError(f"without {', '.join(missing)}")
        for field in SCHEMA:
            if field.name not in table.column_names:
                empty = None if field.name in (*KNOWN_BY_EDGES, *KNOWN_BY_HUBS) else 0
                table = table.append_column(field, pa.array([empty] * len(table), field.type))
        return table.select(COLUMNS).cast(READ_SCHEMA)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(" ".join(str(error).split())[:200]) from error


def merge_live(tables: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of all tables, those of one minute and series summed; what nobody knew stays null."""
    table = pa.concat_tables([table.cast(SCHEMA) for table in tables]) if tables else SCHEMA.empty_table()
    if not len(table):
        return table
    # Only a sum of nothing is null: the sums of columns that are always told are never so.
    grouped = table.group_by(list(KEYS), use_threads=False).aggregate([(name, "sum") for name in VALUES])
    return grouped.select([*KEYS, *(f"{name}_sum" for name in VALUES)]).rename_columns(COLUMNS).cast(SCHEMA)


def fill_in(live: pa.Table, imported: Sequence[pa.Table]) -> pa.Table:
    """Return the live rows, and of the imported ones those that nobody measured; the last import counts most."""
    found = live.cast(SCHEMA)
    for table in reversed(imported):
        fresh = last_of_each(table.cast(SCHEMA))
        if len(found):
            known = found.select(KEYS)
            fresh = fresh.join(known, keys=list(KEYS), join_type="left anti", use_threads=False)
        found = pa.concat_tables([found, fresh.select(COLUMNS).cast(SCHEMA)])
    return found


def last_of_each(table: pa.Table) -> pa.Table:
    """Return the last row of each minute and series: an import that repeats one corrects it."""
    numbered = table.append_column("place", pa.array(np.arange(len(table))))
    places = numbered.group_by(list(KEYS), use_threads=False).aggregate([("place", "max")]).column("place_max")
    return table.take(np.sort(places.to_numpy()))


def clean_values(table: pa.Table) -> tuple[pa.Table, int]:
    """Return the table with what cannot be true made unknown, and how many rows that were.

    Negative, infinite and absurd values: offered work, served work and replicas become null, all others 0.
    """
    bad_rows = None
    for name in VALUES:
        column = table.column(name)
        extremes = pc.min_max(column).as_py()
        low, high = extremes["min"], extremes["max"]
        has_nan = pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py()
        if low is None or (low >= 0 and high <= VALUE_MAX[name] and not has_nan):
            continue
        bad = pc.invert(pc.and_kleene(pc.greater_equal(column, 0), pc.less_equal(column, VALUE_MAX[name])))
        bad = pc.fill_null(bad, False)
        instead = None if name in (*KNOWN_BY_EDGES, *KNOWN_BY_HUBS) else 0
        fixed = pc.if_else(bad, pa.scalar(instead, column.type), column)
        table = table.set_column(table.column_names.index(name), SCHEMA.field(name), fixed)
        bad_rows = bad if bad_rows is None else pc.or_(bad_rows, bad)
    return table, 0 if bad_rows is None else int(pc.sum(bad_rows).as_py() or 0)


def days_between(start: float, end: float) -> list[date]:
    """Return the days (UTC) that the Unix seconds from `start` up to, not including, `end` touch."""
    first = datetime.fromtimestamp(start, UTC).date()
    last = datetime.fromtimestamp(end - 1e-3, UTC).date()
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]
