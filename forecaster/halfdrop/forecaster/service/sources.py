"""Where minutes of demand come from: a file that may grow, or the demand history and its stream.

A source also says what time it is. For a file that is its own end: what is planned is planned for then, and nothing is
called stale because the file is old.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pandas as pd
import structlog

from halfdrop.contracts.errors import HalfdropError
from halfdrop.forecaster.history import DemandHistory
from halfdrop.forecaster.service.history_file import read_history
from halfdrop.forecaster.workload import MINUTE_S
from halfdrop.runtime.objects import ObjectStore

log = structlog.get_logger()

FILE_POLL_S = 2.0
HISTORY_POLL_S = 10.0
SETTLED_S = 90.0
"""A minute is taken in when it is this long over: members tell once a minute, and the compactor writes every 20 s. A
minute that is taken in half told would be learnt as a lull."""

LOOK_BACK_MINUTES = 15
"""How much of what was taken in is read again each time: what is told late still reaches the page."""


class DemandSource(Protocol):
    """Tells of demand, and of the time."""

    name: str
    is_live: bool

    def now_s(self) -> float:
        """Return the present in Unix seconds, as this source has it."""

    def frames(self) -> AsyncIterator[pd.DataFrame]:
        """Yield rows in the agreed form: the past first, then what is new."""


class FileSource:
    """A file of minutes, read again when it changes."""

    is_live = False

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._path = path
        self._end_s = 0.0

    def now_s(self) -> float:
        return self._end_s or time.time()

    async def frames(self) -> AsyncIterator[pd.DataFrame]:
        """Yield the file whole, then what it has more each time it grows.

        Raises InvalidInput where the file is none at the start; later a file that is being written is waited for.
        """
        mark = self._mark()
        frame = await asyncio.to_thread(read_history, self._path)
        self._note_end(frame)
        yield frame
        while True:
            await asyncio.sleep(FILE_POLL_S)
            if (newer := self._mark()) == mark:
                continue
            try:
                frame = await asyncio.to_thread(read_history, self._path)
            except (HalfdropError, OSError) as error:
                log.warning("history_unreadable", path=str(self._path), error=str(error))
                continue
            mark, known_s = newer, self._end_s
            self._note_end(frame)
            # The newest minutes may have been written in part when the file was read before.
            yield frame[frame["minute"] >= pd.Timestamp(known_s - 10 * MINUTE_S, unit="s")]

    def _mark(self) -> tuple[float, int]:
        try:
            found = self._path.stat()
        except OSError:
            return 0.0, 0
        return found.st_mtime, found.st_size

    def _note_end(self, frame: pd.DataFrame) -> None:
        if len(frame):
            self._end_s = float(frame["minute"].max().timestamp()) + MINUTE_S


class HistorySource:
    """The demand history in the object store, as the compactor writes it."""

    is_live = True

    def __init__(self, objects: ObjectStore, *, days: int) -> None:
        self.name = objects.url
        self._history = DemandHistory(objects)
        self._days = days

    def now_s(self) -> float:
        return time.time()

    async def frames(self) -> AsyncIterator[pd.DataFrame]:
        """Yield the past days, then new minutes as they are settled. While the store is away nothing comes."""
        since_s = time.time() - self._days * 86_400
        while True:
            until_s = (time.time() - SETTLED_S) // MINUTE_S * MINUTE_S
            try:
                frame = await self._history.read(since_s, until_s) if until_s > since_s else pd.DataFrame()
            except HalfdropError as error:
                log.warning("history_away", error=str(error))
            else:
                if len(frame):
                    newest_s = float(frame["minute"].max().timestamp())
                    since_s = newest_s - LOOK_BACK_MINUTES * MINUTE_S
                    yield frame
            await asyncio.sleep(HISTORY_POLL_S)
