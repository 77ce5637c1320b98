"""The samples of one call, shared out over threads and made independent of each other.

On a CPU, two threads with half of the batch each do more than one call that all threads share: nothing waits inside a
layer, and a neighbour that takes a core away delays one half, not every layer. On a GPU one thread issues everything.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")

ROWS_USEFUL = 256
"""On a GPU memory and the time of a round set the limit."""


class RowThreads:
    """Threads that serve one model's calls. Close it when the model goes."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads - 1, thread_name_prefix="rows") if threads > 1 else None

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def run(self, call: Callable[[slice], T], rows: int, *, together_max: int) -> list[T]:
        """Return what `call` returns for each part of `rows`, in order: as many parts as there are threads, or more,
        so that none has over `together_max` samples."""
        parts = split_rows(rows, self.threads, together_max)
        if self._pool is None or len(parts) == 1:
            return [_without_gradients(call, part) for part in parts]
        futures = [self._pool.submit(_without_gradients, call, part) for part in parts[1:]]
        # A part that fails must not leave the others at work on states that are given up.
        results, failure = [], None
        try:
            results.append(_without_gradients(call, parts[0]))
        except Exception as error:
            failure = error
        for future in futures:
            try:
                results.append(future.result())
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return results


def split_rows(rows: int, threads: int, together_max: int) -> list[slice]:
    """Return the parts of `rows` samples: of nearly equal size, the larger ones first."""
    count = max(min(rows, threads), -(-rows // together_max))
    edges = [-(-rows * place // count) for place in range(count + 1)]
    return [slice(begin, end) for begin, end in pairwise(edges)]


def _without_gradients(call: Callable[[slice], T], part: slice) -> T:
    with torch.no_grad():  # a thread has its own mode
        return call(part)


class RowwiseLinear(nn.Linear):
    """A linear layer whose answer for a sample never depends on the batch.

    What one sample gives, a vector, goes through alone: with one row a library multiplies by a matrix-vector product,
    with several by a matrix product, and these add up in different orders. Samples of many rows (tokens) have matrix
    products either way; those were found equal bit by bit, and a test holds them to it.
    """

    def forward(self, samples: Tensor) -> Tensor:
        if samples.ndim != 2 or len(samples) == 1:
            return super().forward(samples)
        return torch.cat([super(RowwiseLinear, self).forward(sample) for sample in torch.split(samples, 1)])


def make_rowwise(network: nn.Module) -> None:
    """Make every linear layer of `network` one that treats vectors alone. Nothing else changes, no weight moves."""
    for layer in network.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = RowwiseLinear


def free_weights(network: nn.Module) -> None:
    """Take all weights out of a network that nobody will ask again."""
    for module in network.modules():
        for name in module._parameters:
            module._parameters[name] = None
        for name in module._buffers:
            module._buffers[name] = None


def one_by_one(parts: Sequence[Tensor]) -> list[Tensor]:
    """Return the samples of the parts of a call, each with its first dimension of 1."""
    return [sample for part in parts for sample in torch.split(part, 1)]
