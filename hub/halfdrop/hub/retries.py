"""What a failed delivery costs its job, and how long the job waits for the next one. Pure: no clock, no client.

A job may spend `max_deliver` before it is given up on. Costs differ, because failures say different things: an error of
the job's own costs one delivery; one that nobody foresaw will hardly pass by itself and costs two; an outage of what
stands behind the worker says nothing of the job and costs a quarter; a stopping worker's hand-back costs nothing.

Waits grow with the failures and have full jitter (a uniform draw from zero to the bound), so that jobs which failed
together do not come back together: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from enum import StrEnum
from random import Random

from halfdrop.contracts.errors import TransientError, Unavailable
from halfdrop.contracts.tries import Tries


class Failure(StrEnum):
    """Why a delivery was in vain, though another one may not be."""

    OUTAGE = "outage"
    TRANSIENT = "transient"
    TOO_SLOW = "too-slow"
    UNFORESEEN = "unforeseen"


COSTS = {Failure.OUTAGE: 0.25, Failure.TRANSIENT: 1.0, Failure.TOO_SLOW: 1.0, Failure.UNFORESEEN: 2.0}
SILENT_COST = 1.0
"""A delivery that ended without a word, with its worker."""

HANDED_BACK_FREE_MAX = 100
"""Hand-backs beyond these cost as much as a failure: everything ends some time."""

WAIT_MIN_S, WAIT_MAX_S = 1.0, 60.0
"""Bound of the first wait, and of the longest."""

GROWTH = {Failure.OUTAGE: 2.0, Failure.TRANSIENT: 4.0, Failure.TOO_SLOW: 4.0, Failure.UNFORESEEN: 4.0}
"""By how much the bound grows with each failure. An outage ends for all at once: waits stay short for longer."""

RETRY_AFTER_MAX_S = 3_600.0
"""What an error asks for is kept up to this."""


def failure_of(error: Exception) -> Failure:
    """Return what kind of failure an error is that is not permanent."""
    if isinstance(error, Unavailable):
        return Failure.OUTAGE
    if isinstance(error, TransientError):
        return Failure.TRANSIENT
    return Failure.TOO_SLOW if isinstance(error, TimeoutError) else Failure.UNFORESEEN


def spent_before(tries: Tries, attempt: int) -> float:
    """Return what the deliveries before `attempt` have cost, those that ended without a word among them."""
    return tries.spent + SILENT_COST * max(0, attempt - 1 - tries.through)


def charge(tries: Tries, attempt: int, failure: Failure) -> Tries:
    """Return the account after delivery `attempt` ended in `failure`."""
    spent = spent_before(tries, attempt) + COSTS[failure]
    return Tries(through=max(attempt, tries.through), spent=spent, handed_back=tries.handed_back)


def hand_back(tries: Tries, attempt: int) -> Tries:
    """Return the account after delivery `attempt` was handed back."""
    cost = 0.0 if tries.handed_back < HANDED_BACK_FREE_MAX else COSTS[Failure.TRANSIENT]
    spent = spent_before(tries, attempt) + cost
    return Tries(through=max(attempt, tries.through), spent=spent, handed_back=tries.handed_back + 1)


def wait_bound_s(failure: Failure, failures: int) -> float:
    """Return the longest wait after so many failures before this one, in seconds."""
    grown = WAIT_MIN_S * GROWTH[failure] ** min(failures, 16)  # far beyond the limit, and no overflow
    return min(WAIT_MAX_S, grown)


def wait_s(failure: Failure, *, failures: int, retry_after_s: float, random: Random) -> float:
    """Return how long the job waits: at least what the error asks for, and a part of the bound by chance."""
    asked_s = min(max(0.0, retry_after_s), RETRY_AFTER_MAX_S)
    return asked_s + random.uniform(0.0, wait_bound_s(failure, failures))
