"""How a member counts demand and tells of it: in memory, one message a minute, the last partial one when it stops.

Each series that a member knows is told in every minute, with zeros where nothing came: no row means that nobody knows.
A report that cannot be sent is kept and sent again, in order; what is kept is bounded in bytes, and the oldest goes.
"""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import structlog

from halfdrop.contracts.demand import (
    MINUTE_S,
    OTHER_MODEL,
    SERIES_MAX,
    DemandReport,
    DemandRow,
    SeriesName,
    encode_report,
)
from halfdrop.contracts.errors import TransientError

log = structlog.get_logger()

KNOWN_MINUTES = 8 * 1_440
"""How long a series is told of after anything last came: what comes once a week is zero in between, not unknown."""

KEPT_MAX_BYTES = 32 * 2**20
"""Reports that wait to be sent: months of three series, or two days of 200."""

FLUSH_S = 3.0
"""How long a process that stops tries to get its last report out."""

AFTER_MINUTE_S = 1.0
"""Reports go out so long after the minute's end, for clocks are not that exact."""

RETRY_S = 2.0

Count = Callable[[SeriesName, Mapping[str, float]], None]

Send = Callable[[DemandReport, bytes], Awaitable[None]]
"""Return once a stream has the report; raise TransientError if it has not, or may not have."""


class DemandCounter:
    """Counts of the present minute, and reports of earlier ones that nobody has yet. Belongs to the loop.

    blank: what this member tells of a series in a minute in which nothing happened, such as {"requests": 0}.
    usual: series that are told of from the start. settle: called before a minute is closed with what counts in it, for
    what is still going on.
    """

    def __init__(
        self,
        member: str,
        *,
        blank: Mapping[str, float],
        usual: Callable[[], Iterable[SeriesName]] = lambda: (),
        settle: Callable[[Count], None] = lambda count: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.member = member
        self.run = secrets.token_hex(4)
        self.lost = self.sent = 0
        """Reports given up for want of room, and reports that a stream has."""

        self._blank = blank
        self._usual = usual
        self._settle = settle
        self._clock = clock
        self._number = 0
        self._minute = int(clock() // MINUTE_S)
        self._counts: dict[SeriesName, dict[str, float]] = {}
        self._known: dict[SeriesName, int] = {}
        """The series that are told of, and the minute in which each had news last."""

        self._waiting: deque[tuple[DemandReport, bytes]] = deque()
        self._waiting_bytes = 0

    @property
    def waiting(self) -> int:
        """Reports that no stream has yet."""
        return len(self._waiting)

    def known(self) -> list[SeriesName]:
        """Return the series that are told of."""
        return list(self._known)

    def add(self, series: SeriesName, **amounts: float) -> None:
        """Count in the present minute: `add(series, requests=1, gpu_s_offered=2.5)`."""
        self.close(is_over=False)
        self._count(series, amounts)

    def close(self, *, is_over: bool) -> None:
        """Make reports of the minutes that are over; with `is_over` of the present one as well, for it is the last."""
        minute = int(self._clock() // MINUTE_S)
        if minute == self._minute and not is_over:
            return
        self._settle(self._count_on)
        for series in self._usual():
            self._known[series] = self._minute
        rows = tuple(self._row(series) for series in self._choose_series())
        if rows:
            self._keep(rows)
        self._counts.clear()
        self._minute = minute

    async def send_all(self, send: Send) -> None:
        """Send what waits, in order. Raises TransientError where a report could not be sent; it stays the next."""
        while self._waiting:
            report, data = self._waiting[0]
            await send(report, data)
            # While it was sent, a new one may have pushed it out.
            if self._waiting and self._waiting[0][0] is report:
                self._waiting.popleft()
                self._waiting_bytes -= len(data)
            self.sent += 1

    async def run_until_cancelled(self, send: Send) -> None:
        """Tell of each minute once it is over; when cancelled, of the last one, within FLUSH_S."""
        try:
            while True:
                now = self._clock()
                await asyncio.sleep((now // MINUTE_S + 1) * MINUTE_S + AFTER_MINUTE_S - now)
                self.close(is_over=False)
                await self._send_stubbornly(send)
        finally:
            self.close(is_over=True)
            await self._flush(send)

    async def _send_stubbornly(self, send: Send) -> None:
        while self._waiting:
            try:
                await self.send_all(send)
            except TransientError as error:
                log.debug("demand_not_sent", waiting=self.waiting, error=error.detail)
                await asyncio.sleep(RETRY_S)
                self.close(is_over=False)

    async def _flush(self, send: Send) -> None:
        try:
            async with asyncio.timeout(FLUSH_S):
                await self.send_all(send)
        except (TransientError, TimeoutError) as error:
            log.warning("demand_lost", reports=self.waiting, error=str(error) or "too slow")

    def _count(self, series: SeriesName, amounts: Mapping[str, float]) -> None:
        if series not in self._known and len(self._known) >= SERIES_MAX:
            series = series._replace(model=OTHER_MODEL)
        self._known[series] = self._minute
        self._count_on(series, amounts)

    def _count_on(self, series: SeriesName, amounts: Mapping[str, float]) -> None:
        """Count what is no news of the series: that alone does not keep it known."""
        self._known.setdefault(series, self._minute)
        counts = self._counts.setdefault(series, dict(self._blank))
        for name, amount in amounts.items():
            counts[name] = counts.get(name, 0) + amount

    def _choose_series(self) -> list[SeriesName]:
        oldest = self._minute - KNOWN_MINUTES
        for series in [series for series, minute in self._known.items() if minute < oldest]:
            del self._known[series]
        return list(self._known)

    def _row(self, series: SeriesName) -> DemandRow:
        members: dict[str, Any] = {**series._asdict(), **self._counts.get(series, self._blank)}
        return DemandRow(**members)

    def _keep(self, rows: tuple[DemandRow, ...]) -> None:
        self._number += 1
        report = DemandReport(member=self.member, run=self.run, number=self._number, minute=self._minute, rows=rows)
        data = encode_report(report)
        self._waiting.append((report, data))
        self._waiting_bytes += len(data)
        while self._waiting_bytes > KEPT_MAX_BYTES and len(self._waiting) > 1:
            self._waiting_bytes -= len(self._waiting.popleft()[1])
            self.lost += 1
            if self.lost == 1:
                log.warning("demand_lost", reports=1, error="no stream took reports for too long")
