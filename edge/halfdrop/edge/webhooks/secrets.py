"""The secrets that sign deliveries, at rest: one small object for each, under access/webhooks/<tenant>/.

As with the secrets that sign addresses (docs/adr/0012), the first has a fixed name, so that edges which start together
share it, and which of them sign follows from when they were made: no record is ever changed.
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

import msgspec

from halfdrop.contracts.errors import Unavailable
from halfdrop.edge.names import new_order_id
from halfdrop.runtime.objects import ObjectStore

FOLDER = "access/webhooks"
FIRST_ID = "first"
SECRET_BYTES = 32
"""Standard Webhooks asks for 24 to 64."""

OVERLAP_S = 86_400.0
"""How long an old secret signs along after a new one was made: a day to change it in every receiver."""

SIGNING_MAX = 4
"""Secrets that sign at once. Who rotates more often within a day ends the oldest sooner."""

CACHE_S = 5.0
"""How old what is known of a tenant's secrets may be. A delivery that a receiver refused meanwhile comes again."""

TENANTS_MAX = 1_000


class WebhookSecret(msgspec.Struct, frozen=True, kw_only=True, tag="webhook-secret.v1"):
    """One secret. It is in no log, and in no answer but that to its tenant."""

    id: str
    secret: bytes
    made_at: float
    """Unix seconds."""

    def __repr__(self) -> str:
        return f"WebhookSecret(id={self.id!r}, made_at={self.made_at!r})"


async def ensure_secrets(objects: ObjectStore, tenant: str, *, now: float) -> list[WebhookSecret]:
    """Return a tenant's secrets, oldest first, after making one where there is none. Raises Unavailable."""
    known = await _read(objects, tenant)
    if not known:
        await objects.create(_path(tenant, FIRST_ID), msgspec.json.encode(_make(FIRST_ID, now)))
        known = await _read(objects, tenant)
    return known


async def rotate_secret(objects: ObjectStore, tenant: str, *, now: float, is_at_once: bool = False) -> WebhookSecret:
    """Make a secret that signs from now on and return it; those before it sign along for OVERLAP_S.

    is_at_once: remove them instead: for a secret that somebody has seen.
    """
    known = await ensure_secrets(objects, tenant, now=now)
    made = _make(new_order_id(), max(now, known[-1].made_at + 0.001))  # the newest, whatever another edge's clock says
    await objects.put(_path(tenant, made.id), msgspec.json.encode(made), media_type="application/json")
    kept = [] if is_at_once else choose_signing([*known, made], now)
    for old in known:
        if old not in kept:
            await objects.delete(_path(tenant, old.id))
    return made


def choose_signing(known: Sequence[WebhookSecret], now: float) -> list[WebhookSecret]:
    """Return the secrets that sign at `now`, newest first."""
    successors = [*(secret.made_at for secret in known[1:]), float("inf")]
    signing = [secret for secret, ends in zip(known, successors, strict=True) if now < ends + OVERLAP_S]
    return signing[-SIGNING_MAX:][::-1]


class SecretBook:
    """The secrets of tenants as deliveries need them: read anew after CACHE_S, and the last known while the store is
    away."""

    def __init__(self, objects: ObjectStore, clock: Callable[[], float] = time.time) -> None:
        self._objects = objects
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, list[WebhookSecret]]] = OrderedDict()

    async def signing(self, tenant: str) -> list[WebhookSecret]:
        """Return the secrets that sign a tenant's deliveries now, newest first. Raises Unavailable."""
        now = self._clock()
        read_at, known = self._known.get(tenant, (float("-inf"), []))
        if not 0 <= now - read_at < CACHE_S:
            try:
                known = await ensure_secrets(self._objects, tenant, now=now)
                self._keep(tenant, now, known)
            except Unavailable:
                if not known:
                    raise
        return choose_signing(known, now)

    async def rotate(self, tenant: str, *, is_at_once: bool) -> list[WebhookSecret]:
        """Make a new secret and return those that sign now, newest first. Raises Unavailable."""
        await rotate_secret(self._objects, tenant, now=self._clock(), is_at_once=is_at_once)
        self._known.pop(tenant, None)
        return await self.signing(tenant)

    def _keep(self, tenant: str, now: float, known: list[WebhookSecret]) -> None:
        self._known[tenant] = (now, known)
        self._known.move_to_end(tenant)
        while len(self._known) > TENANTS_MAX:
            self._known.popitem(last=False)


async def _read(objects: ObjectStore, tenant: str) -> list[WebhookSecret]:
    found = [await objects.get(path) for path in await objects.list(f"{FOLDER}/{tenant}")]
    known = [msgspec.json.decode(data, type=WebhookSecret) for data in found if data is not None]
    return sorted(known, key=lambda secret: (secret.made_at, secret.id))


def _make(secret_id: str, now: float) -> WebhookSecret:
    return WebhookSecret(id=secret_id, secret=secrets.token_bytes(SECRET_BYTES), made_at=now)


def _path(tenant: str, secret_id: str) -> str:
    return f"{FOLDER}/{tenant}/{secret_id}.json"
