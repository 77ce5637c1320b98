"""Addresses that answered 410 Gone: their tenant's webhooks are not sent there until it enables them again.

A bucket on the edge's own server, without an end; known whole in memory. Each edge learns it from its own deliveries.
"""

import hashlib

import msgspec
from nats.js import JetStreamContext
from nats.js.kv import KeyValue

from halfdrop.edge.orders import translated
from halfdrop.runtime.streams import ensure_bucket

BUCKET = "WEBHOOKS_DISABLED"

TENANT_MAX = 1_000
"""Addresses remembered of one tenant; beyond it the oldest is forgotten, and asked once more."""


class DisabledAddress(msgspec.Struct, frozen=True, kw_only=True, tag="disabled-webhook.v1"):
    """One address, and when it asked to be left alone."""

    tenant: str
    url: str
    at: float


class DisabledEndpoints:
    """All of them. Made by `open_disabled`."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket
        self._by_tenant: dict[str, dict[str, float]] = {}

    async def load(self) -> None:
        """Read what the bucket has. Raises Unavailable."""
        with translated("read the disabled webhooks"):
            watcher = await self._bucket.watchall(ignore_deletes=True)
            try:
                async for entry in watcher:
                    if entry is None:  # all that was there has come
                        break
                    found = msgspec.json.decode(entry.value or b"", type=DisabledAddress)
                    self._by_tenant.setdefault(found.tenant, {})[found.url] = found.at
            finally:
                await watcher.stop()  # type: ignore[no-untyped-call]

    def holds(self, tenant: str, url: str) -> bool:
        """True if nothing is to be sent there."""
        return url in self._by_tenant.get(tenant, ())

    def of(self, tenant: str) -> list[str]:
        """Return a tenant's disabled addresses, oldest first."""
        return list(self._by_tenant.get(tenant, ()))

    async def add(self, tenant: str, url: str, now: float) -> None:
        """Disable an address. Raises Unavailable."""
        found = DisabledAddress(tenant=tenant, url=url, at=now)
        with translated("disable a webhook"):
            await self._bucket.put(_key(tenant, url), msgspec.json.encode(found))
        known = self._by_tenant.setdefault(tenant, {})
        known[url] = now
        while len(known) > TENANT_MAX:
            await self.remove(tenant, next(iter(known)))

    async def remove(self, tenant: str, url: str) -> bool:
        """Enable an address; return whether it was disabled. Raises Unavailable."""
        if not self.holds(tenant, url):
            return False
        with translated("enable a webhook"):
            await self._bucket.purge(_key(tenant, url))
        self._by_tenant[tenant].pop(url, None)
        return True


async def open_disabled(js: JetStreamContext) -> DisabledEndpoints:
    """Return them, not loaded yet. Raises Unavailable."""
    with translated("open the disabled webhooks"):
        return DisabledEndpoints(await ensure_bucket(js, BUCKET, kept_s=0))


def _key(tenant: str, url: str) -> str:
    return f"{tenant}.{hashlib.sha256(url.encode()).hexdigest()[:32]}"
