"""The compactor: takes what members tell of demand out of DEMAND and writes it to the history, each report once.

Its place in the stream lies in the object store, beside the files: `demand/state/<stream>.json`. A step reads the next
messages, writes a part for each day that they touch, and then the position; with that, all of it counts. Whatever dies
before leaves parts from beyond the position, which the next start removes and writes again. Nothing is acked: the
stream keeps messages for a week, whoever has read them.

One compactor for each stream. Parts of a day are merged when there are many, and once more when the day is over.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime

import msgspec
import structlog

from halfdrop.contracts.errors import TransientError
from halfdrop.forecaster.demand_parts import (
    FOLDER,
    Part,
    choose_parts,
    decode_part,
    encode_part,
    live_path,
    merge_live,
    read_path,
)
from halfdrop.forecaster.demand_rows import ODDITIES, Batch, Position, read_batch
from halfdrop.forecaster.demand_stream import DemandStream, StreamState
from halfdrop.runtime.objects import ObjectStore

log = structlog.get_logger()

MERGE_AT = 24
"""Parts of one day that are merged into one: so many small files cost a reader 0.1 s."""

MERGE_PAST_EVERY_S = 900.0
"""How often days that are over are looked at: late rows come in bursts."""

RETRY_S = 2.0
COMPLAINTS_EVERY_S = 60.0
"""A member with a broken clock tells once a minute; one line of each kind in that time is enough."""


class CompactorStats(msgspec.Struct, kw_only=True):
    """What a compactor did since its start, for metrics and health."""

    reports: int = 0
    parts: int = 0
    merges: int = 0
    failures: int = 0
    oddities: Counter[str] = msgspec.field(default_factory=lambda: Counter(dict.fromkeys(ODDITIES, 0)))
    lag: int = 0
    """Messages in the stream that are not in the history yet."""

    missed: int = 0
    """Messages that the stream dropped, by age or for want of room, before the history had them."""

    stream_bytes: int = 0
    stream_max_bytes: int = 0
    """How much the stream holds, and where it begins to drop the oldest."""

    written_at: float = 0.0
    """Unix seconds at which the history was last known to hold all that had come; 0: never."""


class Compactor:
    """Compacts one region's stream into the object store."""

    def __init__(
        self,
        objects: ObjectStore,
        stream: DemandStream,
        region: str,
        *,
        stats: CompactorStats | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.region = region
        self.stats = stats or CompactorStats()
        self._objects = objects
        self._stream = stream
        self._clock = clock
        self._position: Position | None = None
        self._parts: dict[date, list[Part]] = defaultdict(list)
        """Parts of this stream, by day."""

        self._missed_to = 0
        """Sequence up to which missed messages are counted."""

        self._merged_past_at = 0.0
        self._complained_at: dict[str, float] = {}

    async def step(self) -> bool:
        """Take the next messages into the history, and return whether more wait. Raises Unavailable.

        After an error nothing in memory is trusted: the next step begins as a new start does.
        """
        try:
            position = await self._find_position()
            messages = await self._stream.read(position.sequence + 1)
            if messages:
                batch = await asyncio.to_thread(read_batch, messages, position, now=self._clock())
                await self._write(batch)
                self._complain(batch)
            await self._merge()
        except BaseException:
            self._position = None
            raise
        if not messages:
            self.stats.written_at = self._clock()
        return bool(messages)

    async def _find_position(self) -> Position:
        """Return the position in the present stream; at a start, and after an error, after cleaning up."""
        stream = await self._stream.describe()
        last, name = stream.last, f"{self.region}.{stream.created}"
        if self._position is None or not self._position.stream.startswith(name):
            self._position = await self._recover(name)
        if last < self._position.sequence:
            # A server that lost its newest messages gives their numbers again, and ranges must never overlap.
            log.error("demand_stream_went_back", stream=name, sequence=self._position.sequence, now_at=last)
            self._position = _next_life(self._position, last)
            self._missed_to = 0
            self._parts.clear()
        self._look_at(stream, self._position)
        return self._position

    def _look_at(self, stream: StreamState, position: Position) -> None:
        """Note how far behind the history is, and what it will never have."""
        self.stats.stream_bytes, self.stats.stream_max_bytes = stream.size_bytes, stream.max_bytes
        self.stats.lag = max(0, stream.last - max(position.sequence, stream.first - 1))
        known = max(position.sequence, self._missed_to)
        # Before the first position nothing was kept, and nobody was promised it.
        if position.sequence and (missed := stream.first - 1 - known) > 0:
            self.stats.missed += missed
            self._missed_to = stream.first - 1
            log.error("demand_missed", stream=position.stream, reports=missed, after=known)

    async def _recover(self, name: str) -> Position:
        """Read the position, and remove what a crash left behind: parts beyond it, and parts that were merged."""
        position = await self._read_position(name)
        self._missed_to = 0
        stream = position.stream
        self._parts.clear()
        found: dict[date, list[Part]] = defaultdict(list)
        for path in await self._objects.list(FOLDER):
            part = read_path(path)
            if part is not None and part.stream == stream:
                found[part.day].append(part)
        for day, parts in found.items():
            counting, _ = choose_parts(part for part in parts if part.last <= position.sequence)
            for part in parts:
                if part not in counting:
                    log.info("demand_part_removed", path=part.path, reason="left behind by a stop in between")
                    await self._objects.delete(part.path)
            self._parts[day] = counting
        log.info("demand_position", stream=stream, sequence=position.sequence, days=len(found))
        return position

    async def _read_position(self, name: str) -> Position:
        """Return the position of the stream's present life; the beginning of the first if there is none."""
        paths = [
            path for path in await self._objects.list(f"{FOLDER}/state") if path.startswith(position_path(name, ""))
        ]
        if not paths:
            return Position(stream=f"{name}00")
        data = await self._objects.get(paths[-1])
        try:
            return msgspec.json.decode(data or b"", type=Position)
        except msgspec.MsgspecError as error:
            # Never twice: what has a part counts as taken.
            stream = paths[-1].rpartition("/")[2].removesuffix(".json")
            parts = [part for path in await self._objects.list(FOLDER) if (part := read_path(path))]
            sequence = max((part.last for part in parts if part.stream == stream), default=0)
            log.error("demand_position_unreadable", path=paths[-1], error=str(error), sequence=sequence)
            return Position(stream=stream, sequence=sequence)

    async def _write(self, batch: Batch) -> None:
        after = batch.position
        for day, table in batch.tables.items():
            path = live_path(day, after.stream, batch.first, after.sequence)
            await self._objects.put(path, await asyncio.to_thread(encode_part, table))
        await self._objects.put(position_path(after.stream), msgspec.json.encode(after), media_type="application/json")
        self._position = after
        for day in batch.tables:
            part = read_path(live_path(day, after.stream, batch.first, after.sequence))
            assert part is not None
            self._parts[day].append(part)
        self.stats.reports += batch.reports
        self.stats.parts += len(batch.tables)
        self.stats.lag = max(0, self.stats.lag - (after.sequence - batch.first + 1))

    async def _merge(self) -> None:
        now = self._clock()
        today = datetime.fromtimestamp(now, UTC).date()
        is_time = now - self._merged_past_at >= MERGE_PAST_EVERY_S
        for day, parts in list(self._parts.items()):
            if len(parts) >= MERGE_AT or (is_time and day < today and len(parts) > 1):
                await self._merge_day(day, parts)
        if is_time:
            self._merged_past_at = now

    async def _merge_day(self, day: date, parts: list[Part]) -> None:
        """Replace parts by one of the same rows. What cannot be read is left as it is, and not merged across."""
        runs: list[list[tuple[Part, bytes]]] = [[]]
        kept: list[Part] = []
        for part in sorted(parts, key=lambda part: part.first):
            data = await self._objects.get(part.path)
            if data is not None and await asyncio.to_thread(_is_readable, data):
                runs[-1].append((part, data))
            else:
                log.error("demand_part_unreadable", path=part.path)
                kept.append(part)
                runs.append([])
        for run in runs:
            kept.extend(await self._merge_run(day, run))
        self._parts[day] = sorted(kept, key=lambda part: part.first)

    async def _merge_run(self, day: date, run: list[tuple[Part, bytes]]) -> list[Part]:
        if len(run) < 2:
            return [part for part, _ in run]
        first, last = run[0][0], run[-1][0]
        path = live_path(day, first.stream, first.first, last.last)
        await self._objects.put(path, await asyncio.to_thread(_merge_parts, [data for _, data in run]))
        # From here on the others no longer count: they lie within the new one's range.
        for part, _ in run:
            await self._objects.delete(part.path)
        self.stats.merges += 1
        merged = read_path(path)
        assert merged is not None
        return [merged]

    def _complain(self, batch: Batch) -> None:
        self.stats.oddities.update(batch.oddities)
        now = self._clock()
        for kind, count in batch.oddities.items():
            if now - self._complained_at.get(kind, 0.0) >= COMPLAINTS_EVERY_S:
                self._complained_at[kind] = now
                log.warning("demand_odd", kind=kind, count=count, seen_of=batch.odd_members.get(kind, ""))


async def run_compactor(compactor: Compactor, *, every_s: float) -> None:
    """Compact for ever, and wait `every_s` where nothing is left; outages are waited out."""
    while True:
        try:
            is_more = await compactor.step()
        except TransientError as error:
            compactor.stats.failures += 1
            log.warning("demand_not_compacted", region=compactor.region, error=error.detail)
            await asyncio.sleep(RETRY_S)
        else:
            if not is_more:
                await asyncio.sleep(every_s)


def position_path(stream: str, suffix: str = ".json") -> str:
    """Return where the position in a stream lies."""
    return f"{FOLDER}/state/{stream}{suffix}"


def _next_life(position: Position, sequence: int) -> Position:
    """Return the position to go on from under another name, after the stream went back to `sequence`."""
    name, life = position.stream[:-2], int(position.stream[-2:], 16)
    return msgspec.structs.replace(position, stream=f"{name}{(life + 1) % 256:02x}", sequence=sequence)


def _is_readable(data: bytes) -> bool:
    try:
        decode_part(data)
    except ValueError:
        return False
    return True


def _merge_parts(parts: list[bytes]) -> bytes:
    return encode_part(merge_live([decode_part(data) for data in parts]))
