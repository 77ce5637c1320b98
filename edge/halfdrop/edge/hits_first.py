"""granian's worker with a short cut: what can be answered at once is, in the server's own thread, without the loop.

A request costs a wake-up of the event loop, a task and a switch of threads before any of our code runs; for a picture
that lies ready this is most of the price (docs/adr/0017). granian's server takes the function that starts its worker as
an argument; what this one puts together are granian's own parts, whose names may move with its version.
"""

import asyncio
import contextvars
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import structlog
from granian._granian import CallbackScheduler, RSGIHTTPProtocol, RSGIWorker
from granian.rsgi import Scope
from granian.server.embed import AsyncWorker

log = structlog.get_logger()

TryHit = Callable[[Scope, RSGIHTTPProtocol], bool]
Serve = Callable[[Scope, RSGIHTTPProtocol], Awaitable[None]]


class HitsFirst:
    """What the server is given to run: `try_hit` answers at once or returns False, then `serve` answers in a task.

    `try_hit` runs in a thread of the server's, one request at a time; it must not wait for anything.
    """

    def __init__(self, *, try_hit: TryHit, serve: Serve) -> None:
        self.try_hit = try_hit
        self.serve = serve


def _make_scheduler(target: HitsFirst, loop: asyncio.AbstractEventLoop) -> CallbackScheduler:
    """Return what decides for each request that the server has read."""
    context = contextvars.Context()  # tasks begin with none of the context in which the server was started

    async def answer(watcher: Any) -> None:
        try:
            await target.serve(watcher.scope, watcher.proto)
        except BaseException as error:
            watcher.err(error)
            return
        watcher.done()

    def start(watcher: Any) -> None:
        watcher.taskref(loop.create_task(answer(watcher)))

    def schedule(watcher: Any) -> None:
        try:
            is_answered = target.try_hit(watcher.scope, watcher.proto)
        except Exception:  # raised from here it would end the server's thread, and no request were answered any more
            log.exception("hit_failed")
            is_answered = False
        if is_answered:
            watcher.done()
        else:
            loop.call_soon_threadsafe(start, watcher, context=context)

    new: Any = CallbackScheduler
    scheduler: CallbackScheduler = new(loop, answer, None, partial(_enter_task, loop), partial(_leave_task, loop))
    scheduler._schedule_fn = schedule  # type: ignore[attr-defined]
    return scheduler


@AsyncWorker.wrap_target  # type: ignore[untyped-decorator]
async def spawn_worker(
    worker_id: int, shutdown: Any, target: HitsFirst, sock: Any, loop: asyncio.AbstractEventLoop, *settings: Any
) -> None:
    """Serve until `shutdown`: `Server.serve(spawn_worker)`, for a server with the interface RSGI."""
    stopped = loop.create_future()
    shutdown.add_cb(lambda: loop.call_soon_threadsafe(stopped.set_result, None))
    # In granian's order, without those of tasks and of its access log.
    threads, protocol, tls = settings[:5], settings[6:11], settings[12]
    new: Any = RSGIWorker  # granian's stub is behind its code
    worker = new(worker_id, sock, None, *threads, *protocol, *tls, (None, None))
    worker.serve_async(_make_scheduler(target, loop), loop, shutdown)
    await stopped
