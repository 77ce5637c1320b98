"""What an operator decides while workers run: weights of the classes, and how many jobs a tenant may have in hand.

One JSON document in the bucket POLICY on the hub's server, changed by compare-and-set. Workers listen to the bucket's
subject, which costs nothing while nothing changes, and look again now and then in case a message was lost. What cannot
be read is refused with a line in the log, and the last good policy stays.
"""

import asyncio
from collections.abc import Callable
from typing import Annotated

import msgspec
import structlog
from msgspec import Meta
from msgspec.structs import replace
from nats.errors import Error as NatsError
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError

from halfdrop.contracts.errors import PermanentError, Unavailable
from halfdrop.contracts.jobs import JobClass
from halfdrop.contracts.pools import DEFAULT_WEIGHTS
from halfdrop.contracts.subjects import DRAINING_KEY, POLICY_BUCKET
from halfdrop.hub.fair_order import LaneName
from halfdrop.runtime.broker import Broker
from halfdrop.runtime.streams import ensure_bucket

log = structlog.get_logger()

KEY = "queue"
SUBJECTS = tuple(f"$KV.{POLICY_BUCKET}.{key}" for key in (KEY, DRAINING_KEY))
"""Whoever listens here hears each change as it is stored."""

LOOK_AGAIN_S = 10.0
FOR_EVER_S = 0.0
CHANGE_TRIES = 5
"""Two operators at once are rare, three are a script gone wild."""

Weight = Annotated[float, Meta(ge=0.001, le=1_000)]
"""A thousandth of another class still moves; a share of nothing would be a queue that never ends."""

Cap = Annotated[int, Meta(ge=1, le=10_000)]
TenantName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]


class QueuePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the queue is shared. What is left out stays as it is by default."""

    weights: dict[JobClass, Weight] = msgspec.field(default_factory=dict)
    """Shares of the classes while all have work; DEFAULT_WEIGHTS for those left out."""

    caps: Annotated[dict[TenantName, dict[JobClass, Cap]], Meta(max_length=10_000)] = msgspec.field(
        default_factory=dict
    )
    """Most jobs of a tenant, by class, that are being worked on at once; those left out may have as many as there are
    slots. A job that waits for its next attempt counts, too."""

    def all_weights(self) -> dict[JobClass, float]:
        """Return the weight of every class."""
        return {**DEFAULT_WEIGHTS, **self.weights}

    def with_weight(self, job_class: JobClass, weight: float) -> "QueuePolicy":
        """Return this policy with another weight of a class."""
        return replace(self, weights={**self.weights, job_class: weight})

    def with_cap(self, tenant: str, job_class: JobClass, jobs: int) -> "QueuePolicy":
        """Return this policy with another cap of a lane; 0 removes it."""
        caps = {name: cap for name, cap in self.caps.get(tenant, {}).items() if name != job_class}
        if jobs:
            caps[job_class] = jobs
        others = {name: each for name, each in self.caps.items() if name != tenant}
        return replace(self, caps={**others, tenant: caps} if caps else others)

    def cap(self, lane: LaneName) -> int | None:
        """Return how many jobs of `lane` may be in hand; None: any number."""
        return self.caps.get(lane.tenant, {}).get(lane.job_class)


def decode_policy(data: bytes) -> QueuePolicy:
    """Return the policy in `data`. Raises PermanentError(bad-policy), saying what is wrong with it."""
    try:
        return msgspec.json.decode(data, type=QueuePolicy)
    except msgspec.MsgspecError as error:
        raise PermanentError(f"policy of the queue: {error}", code="bad-policy") from error


async def follow_policy(
    broker: Broker, apply: Callable[[QueuePolicy], None], drain: Callable[[bool], None], changed: asyncio.Event
) -> None:
    """Call `apply` with each policy that is new, and `drain` with whether the region takes no new jobs, until
    cancelled. changed: set by whoever hears of a change."""
    known: bytes | None = None
    while True:
        changed.clear()
        try:
            data, _ = await _read(broker)
            if data != known:
                known = data
                policy = decode_policy(data) if data else QueuePolicy()
                log.info("queue_policy", weights=policy.all_weights(), tenants_capped=len(policy.caps))
                apply(policy)
            drain(await _read_draining(broker))
        except PermanentError as error:
            log.error("queue_policy_refused", error=error.detail)
        except Unavailable as error:
            log.warning("queue_policy_unknown", error=error.detail)
        try:
            async with asyncio.timeout(LOOK_AGAIN_S):
                await changed.wait()
        except TimeoutError:
            continue


async def read_policy(broker: Broker) -> QueuePolicy:
    """Return the present policy. Raises Unavailable, and PermanentError(bad-policy) for what nobody can read."""
    data, _ = await _read(broker)
    return decode_policy(data) if data else QueuePolicy()


async def change_policy(broker: Broker, change: Callable[[QueuePolicy], QueuePolicy]) -> QueuePolicy:
    """Store what `change` makes of the present policy, and return it; `change` is called again if another was quicker.

    Raises PermanentError(bad-policy) if the outcome is none, Unavailable if the server does not take it.
    """
    for _ in range(CHANGE_TRIES):
        data, revision = await _read(broker)
        policy = change(decode_policy(data) if data else QueuePolicy())
        encoded = msgspec.json.encode(policy)
        decode_policy(encoded)
        try:
            bucket = await ensure_bucket(broker.js, POLICY_BUCKET, kept_s=FOR_EVER_S)
            await bucket.update(KEY, encoded, last=revision)
            return policy
        except KeyWrongLastSequenceError:
            continue
        except (NatsError, OSError, TimeoutError) as error:
            raise Unavailable(f"the policy of the queue cannot be stored: {error!r}") from error
    raise Unavailable("the policy of the queue changes faster than this change can be made")


async def _read_draining(broker: Broker) -> bool:
    """Return whether an operator drains the region (`halfdrop regions drain`). Raises Unavailable."""
    try:
        bucket = await ensure_bucket(broker.js, POLICY_BUCKET, kept_s=FOR_EVER_S)
        return (await bucket.get(DRAINING_KEY)).value == b"true"
    except KeyNotFoundError:
        return False
    except (NatsError, OSError, TimeoutError) as error:
        raise Unavailable(f"whether the region is drained cannot be read: {error!r}") from error


async def _read(broker: Broker) -> tuple[bytes, int]:
    """Return the stored document and its revision; nothing and 0 if there is none."""
    try:
        bucket = await ensure_bucket(broker.js, POLICY_BUCKET, kept_s=FOR_EVER_S)
        entry = await bucket.get(KEY)
    except KeyNotFoundError:
        return b"", 0
    except (NatsError, OSError, TimeoutError) as error:
        raise Unavailable(f"the policy of the queue cannot be read: {error!r}") from error
    return entry.value or b"", entry.revision or 0
