"""Training processes: two single-threaded ones on a CPU, joined by gloo, or one on a GPU."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """One training process among several."""

    rank: int
    processes: int
    device: str

    @property
    def leads(self) -> bool:
        """Whether this process prints, samples and writes checkpoints."""
        return self.rank == 0


def run_workers(body: Callable[..., None], processes: int, *arguments: Any) -> None:
    """Run `body(worker, *arguments)` in each process and wait for all; one that fails ends the others."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if torch.cuda.is_available():
        body(Worker(rank=0, processes=1, device="cuda"), *arguments)
    elif processes == 1:
        torch.set_num_threads(1)
        body(Worker(rank=0, processes=1, device="cpu"), *arguments)
    else:
        enter = (processes, _free_port(), body, arguments)
        spawn(_enter, enter, nprocs=processes)  # type: ignore[no-untyped-call]  # torch gives it no types


def _enter(rank: int, processes: int, port: int, body: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # torch asks the kernel to interrupt its children when their parent dies; a shell ignores that signal for whatever
    # it starts in the background, and two runs would then write one checkpoint.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=processes)
    try:
        body(Worker(rank=rank, processes=processes, device="cpu"), *arguments)
    finally:
        dist.destroy_process_group()


def average_gradients(worker: Worker, parameters: Iterable[nn.Parameter], extra: float) -> float:
    """Replace each gradient by its mean over the processes; return the mean of `extra`, equal everywhere.

    The extra number carries the progress of time: all processes must stop at the same step.
    """
    if worker.processes == 1:
        return extra
    trained = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = [parameter.grad.reshape(-1) for parameter in trained if parameter.grad is not None]
    joined = torch.cat([*gradients, torch.tensor([extra])])
    dist.all_reduce(joined)
    joined /= worker.processes
    for parameter, mean in zip(trained, torch.split(joined[:-1], [p.numel() for p in trained]), strict=True):
        parameter.grad = mean.view_as(parameter)
    return float(joined[-1])


def average_weights(averages: list[nn.Parameter], newest: list[nn.Parameter], rate: float, step: int) -> None:
    """Move a running average of weights towards the newest ones, faster in the first steps."""
    with torch.no_grad():
        torch._foreach_lerp_([*averages], [*newest], max(rate, 1 / (1 + step / 8)))


def column(values: Tensor) -> Tensor:
    """Return [batch] as [batch, 1, 1, 1], to be multiplied with plates."""
    return values.view(-1, 1, 1, 1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
