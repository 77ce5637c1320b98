"""What the engine asks of a model and is told of a job: the seam between the thread that runs rounds and torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from halfdrop.contracts.jobs import JobClass
from halfdrop.hub.engine.planning import Group


class Stopped(Exception):
    """The work was called off while a thread was at it; not an error of the job."""


class StepModel(Protocol):
    """A loaded model, asked from the engine's thread alone. `Any` is what it and whoever asks agree upon."""

    @property
    def size_bytes(self) -> int:
        """Memory that it holds while it is loaded."""

    @property
    def rows_useful(self) -> int:
        """Samples in a round beyond which nothing is gained: more would only make all jobs late together."""

    def group_of(self, ask: Any) -> Group:
        """Return the group that a job for `ask` steps with. Raises InvalidInput for what cannot be drawn."""

    def rows_of(self, ask: Any) -> int:
        """Return how many samples the job adds to a call: two with guidance."""

    def begin(self, ask: Any) -> Any:
        """Return the state before the first step, or the one that `ask` goes on from: with `step`, the steps done, and
        `steps`, all there are. Nothing in it is another job's."""

    def enter(self, group: Group) -> None:
        """Set the networks up for a group, unless they are. Called before each of its rounds."""

    def predict(self, states: Sequence[Any]) -> Sequence[Any]:
        """Return what the network says for each state, in one call; changes no state, so that it can be asked again
        with fewer after it ran out of memory."""

    def advance(self, state: Any, prediction: Any) -> None:
        """Take the step: the job's own noise scheduler, its own generator."""

    def finish(self, state: Any) -> Any:
        """Return what was asked for, of a state that has taken all its steps."""

    @property
    def finishes_apart(self) -> bool:
        """True if finishing takes about as long as a step, and so a round of its own."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """A job for the engine. All is called in the engine's thread; an exception out of a call ends this job alone."""

    model: str
    """Digest of the model that draws it."""

    ask: Any
    """What the model's `begin` understands."""

    job_class: JobClass = "standard"
    on_begin: Callable[[Any], None] = lambda _: None
    """Told the state before the job's first step here: an earlier try may have done some."""

    on_step: Callable[[Any], None] = lambda _: None
    """Told the state after each step."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the device's memory was not enough; torch has several ways to say it.

    Told by name and words, because who runs rounds does without torch.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in words for sign in _OUT_OF_MEMORY)


_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "defaultcpuallocator: not enough")
"""CUDA and cuBLAS say the first, the CPU's allocator one of the others."""
