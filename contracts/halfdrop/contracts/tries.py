"""What a job's deliveries have cost it so far, carried in its statuses from worker to worker.

JetStream counts deliveries, and cannot tell a job that failed from one that a stopping worker handed back. So each
delivery that ends in order writes down what it cost. One that ends without a word, as when its worker is killed,
leaves a gap between its number and `through`, and the next worker charges for the gap: a job that kills its workers
is given up on, although none of them lived to say so.
"""

import msgspec


class Tries(msgspec.Struct, frozen=True, kw_only=True):
    """The account of one job."""

    through: int = 0
    """Number of the last delivery that said how it ended."""

    spent: float = 0.0
    """Cost of the deliveries up to it; a job may spend `max_deliver`."""

    handed_back: int = 0
    """Deliveries that a stopping worker gave back; they cost nothing."""


NO_TRIES = Tries()
