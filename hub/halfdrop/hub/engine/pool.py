"""The models in memory: loaded when jobs want them, in a thread of their own, within a budget; evicted without traces.

Decided by `keeping`, in the engine's thread, which alone knows who holds what: a model goes only between two rounds. It
is let go and loaded in the loader's thread, so that nobody's steps wait for a file.
"""

import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol, Self

import structlog

from halfdrop.contracts.errors import HalfdropError, PermanentError, TransientError
from halfdrop.hub.engine.keeping import PATIENCE_S, GreedyDual, Held, Wanted, choose_models, least_worth
from halfdrop.hub.engine.running import Demand
from halfdrop.hub.engine.seams import StepModel, is_out_of_memory

log = structlog.get_logger()

LOAD_RETRY_S = 5.0
"""After a load that memory was not enough for."""


class PooledModel(StepModel, Protocol):
    """A model that can be let go."""

    def close(self) -> None:
        """End its threads and free its weights at once: modules refer to each other in circles, which are collected
        when the collector gets to it, and a collection would hold up everybody's steps for long."""


@dataclass(frozen=True, kw_only=True)
class Loadable:
    """A model that could be loaded."""

    digest: str
    name: str
    size_bytes: int
    """What it will take, about."""

    load: Callable[[], PooledModel]
    """Called in the loader's thread."""


@dataclass(slots=True)
class _Entry:
    loadable: Loadable
    model: PooledModel | None = None
    """None while it is being loaded."""

    size_bytes: int = 0


@dataclass(slots=True)
class PoolCounters:
    """What the pool has done; read by metrics."""

    loads: int = 0
    load_s: float = 0.0
    evictions: int = 0
    load_seconds: dict[str, float] = field(default_factory=dict)
    """By name: how long the last load took."""


class ModelPool:
    """Holds models within `budget_bytes`. Close it (`with`) to end its thread and let go of all models."""

    def __init__(
        self,
        find_loadable: Callable[[str], Loadable],
        *,
        budget_bytes: int,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find_loadable = find_loadable
        self._budget_bytes = budget_bytes
        self._patience_s = patience_s
        self._clock = clock
        self._worth = GreedyDual()
        self._entries: dict[str, _Entry] = {}
        self._failed: dict[str, Exception] = {}
        self._told: set[str] = set()
        self._first_wanted: dict[str, float] = {}
        self._demands: Mapping[str, Demand] = {}
        self._draining: frozenset[str] = frozenset()
        self._preloads: dict[str, Future[None]] = {}
        self._going: list[PooledModel] = []
        self._next: Loadable | None = None
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self.on_change: Callable[[], None] = lambda: None
        """Called, in any thread, when the engine should look again."""

        self.counters = PoolCounters()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._is_closed = True
            self._going += [entry.model for entry in self._entries.values() if entry.model is not None]
            self._entries = {digest: entry for digest, entry in self._entries.items() if entry.model is None}
            self._changed.notify()
            if self._thread is None:
                _let_go(self._going)

    @property
    def held_bytes(self) -> int:
        """Bytes of the models in memory and of the one that is coming."""
        with self._changed:
            return sum(entry.size_bytes for entry in self._entries.values())

    @property
    def loaded(self) -> tuple[str, ...]:
        """Digests of the models in memory."""
        with self._changed:
            return tuple(digest for digest, entry in self._entries.items() if entry.model is not None)

    def preload(self, digest: str) -> "Future[None]":
        """Have a model loaded that no job waits for yet; the future tells when, or why it cannot be."""
        with self._changed:
            future = self._preloads.setdefault(digest, Future())
            entry = self._entries.get(digest)
            if entry is not None and entry.model is not None:
                self._end_preload(digest)
        self.on_change()
        return future

    def find(self, digest: str) -> StepModel | None:
        """Return the model if it is loaded, else None. Raises why it cannot be."""
        with self._changed:
            if (error := self._failed.get(digest)) is not None:
                self._told.add(digest)
                raise error
            entry = self._entries.get(digest)
        return entry.model if entry is not None else None

    def may_begin(self, digest: str) -> bool:
        """Return whether new jobs of a loaded model may begin."""
        return digest not in self._draining

    def used(self, digest: str) -> None:
        """A job began."""
        self._worth.used(digest)

    def note(self, demands: Mapping[str, Demand]) -> None:
        """Hear who wants what, and decide. In the engine's thread, between two rounds."""
        with self._changed:
            self._demands = demands
            now_s = self._clock()
            for digest in self._told:
                self._failed.pop(digest, None)  # all who waited then know; whoever comes next may try again
            self._told.clear()
            wanted, loadables = self._wanted(demands, now_s)
            if self._next is not None or self._is_closed:
                return  # one load at a time
            held = self._held(demands)
            choice = choose_models(wanted, held, self._budget_bytes, patience_s=self._patience_s)
            self._draining = choice.drain
            if choice.load is None:
                return
            for digest in choice.evict:
                self._evict(digest)
            loadable = loadables[choice.load]
            self._entries[choice.load] = _Entry(loadable=loadable, size_bytes=loadable.size_bytes)
            self._next = loadable
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="loader", daemon=True)
                self._thread.start()
            self._changed.notify()

    def free_memory(self) -> bool:
        """Let go of all models that no begun job holds. In the engine's thread, when memory ran out."""
        with self._changed:
            digests = [digest for digest in least_worth(self._held(self._demands)) if self._entries[digest].model]
            for digest in digests:
                self._evict(digest)
        _let_go(self._going)
        return bool(digests)

    def _wanted(self, demands: Mapping[str, Demand], now_s: float) -> tuple[list[Wanted], dict[str, Loadable]]:
        """Return what is not loaded and wanted; what cannot be had is noted as failed."""
        wanted, loadables = [], {}
        missing = [digest for digest in (*demands, *self._preloads) if digest not in self._entries]
        for digest in dict.fromkeys(missing):
            if digest in self._failed:
                continue
            try:
                loadable = self._find_loadable(digest)
                if loadable.size_bytes > self._budget_bytes:
                    raise too_large(loadable, self._budget_bytes)
            except Exception as error:
                self._fail(digest, error)
                continue
            demand = demands.get(digest) or Demand(waiting=0, begun=0, rank=len(demands) + 3, since=0)
            loadables[digest] = loadable
            wanted.append(
                Wanted(
                    digest=digest,
                    size_bytes=loadable.size_bytes,
                    rank=demand.rank,
                    since=demand.since,
                    waited_s=now_s - self._first_wanted.setdefault(digest, now_s),
                )
            )
        for digest in self._first_wanted.keys() - {each.digest for each in wanted}:
            del self._first_wanted[digest]
        return wanted, loadables

    def _held(self, demands: Mapping[str, Demand]) -> list[Held]:
        held = []
        for digest, entry in self._entries.items():
            demand = demands.get(digest)
            size_bytes = entry.size_bytes if entry.model is None else entry.model.size_bytes
            held.append(
                Held(
                    digest=digest,
                    size_bytes=size_bytes,
                    priority=self._worth.priority(digest) if entry.model is not None else float("inf"),
                    begun=demand.begun if demand else 0,
                    waiting=demand.waiting if demand else 0,
                )
            )
        return held

    def _evict(self, digest: str) -> None:
        entry = self._entries.pop(digest)
        self._worth.evicted(digest)
        self.counters.evictions += 1
        log.info("model_evicted", model=entry.loadable.name, digest=digest)
        if entry.model is not None:
            self._going.append(entry.model)

    def _fail(self, digest: str, error: Exception) -> None:
        self._failed[digest] = error
        self._end_preload(digest, error)

    def _end_preload(self, digest: str, error: Exception | None = None) -> None:
        future = self._preloads.pop(digest, None)
        if future is None or not future.set_running_or_notify_cancel():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    def _run(self) -> None:
        """The loader's thread."""
        while True:
            with self._changed:
                while self._next is None and not self._is_closed:
                    self._changed.wait()
                loadable = self._next
            _let_go(self._going)
            if self._is_closed or loadable is None:
                break
            self._load(loadable)
            self.on_change()
            del loadable

    def _load(self, loadable: Loadable) -> None:
        began_s = self._clock()
        model, failure = None, None
        try:
            model = loadable.load()
        except Exception as error:
            failure = _out_of_memory(loadable) if is_out_of_memory(error) else error
            if not isinstance(failure, HalfdropError):
                log.exception("model_not_loaded", model=loadable.name)
        load_s = self._clock() - began_s
        with self._changed:
            self._next = None
            if model is None:
                del self._entries[loadable.digest]
                assert failure is not None
                self._fail(loadable.digest, failure.with_traceback(None))  # its frames hold half a model
                return
            if self._is_closed:
                self._going.append(model)
                return
            entry = self._entries[loadable.digest]
            entry.model, entry.size_bytes = model, model.size_bytes
            self._worth.loaded(loadable.digest, cost_s=load_s, size_bytes=entry.size_bytes)
            self.counters.loads += 1
            self.counters.load_s += load_s
            self.counters.load_seconds[loadable.name] = load_s
            self._end_preload(loadable.digest)
        log.info("model_loaded", model=loadable.name, digest=loadable.digest, load_s=round(load_s, 3))


def too_large(loadable: Loadable, budget_bytes: int) -> PermanentError:
    """Return the error for a model that could never be loaded here."""
    got, allowed = f"{loadable.size_bytes / 2**20:,.0f} MiB", f"{budget_bytes / 2**20:,.0f} MiB"
    detail = f"model {loadable.name}: got {got}; allowed: {allowed}, which HALFDROP_HUB_MODELS_MIB sets"
    return PermanentError(detail, code="model-too-large")


def _out_of_memory(loadable: Loadable) -> TransientError:
    return TransientError(f"no memory to load model {loadable.name}", retry_after_s=LOAD_RETRY_S)


def _let_go(models: list[PooledModel]) -> None:
    """Close models and drop them, and give the device its memory back."""
    if not models:
        return
    while models:
        models.pop().close()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
