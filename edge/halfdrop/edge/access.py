"""Who is asking: the door of an edge, and what each handler asks of those whom it let in.

The front asks the door once for each request; handlers find the answer in the scope. A handler without a guard is
public: a test names the few that are.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import structlog
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from halfdrop.contracts.errors import PermanentError, Unavailable
from halfdrop.edge.keys import CHANGED_PATH, TIERS, KeyRecord, Scope, Tier, digest_key, read_keys
from halfdrop.edge.signing import MARK, AddressRefused, Signed, Signer
from halfdrop.edge.signing_keys import ensure_signing_keys
from halfdrop.runtime.objects import ObjectStore

log = structlog.get_logger()

LOCAL_TENANT = "local"
"""Whose everything is on an open edge."""

POLL_S = 1.0
"""How long a revoked key can still open something. One small read a second costs a dollar a month on S3."""

RELOAD_S = 60.0
"""All keys are read anew after this even if no change was seen."""

COOKIE = b"halfdrop_key="
"""What the Studio page sends its key in: pictures and event streams cannot carry a header."""

KEY_HEADERS = ("authorization", "cookie")
"""Fields of a request in which a key can stand."""

SCOPE_NAME = "halfdrop.access"


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who was let in."""

    tenant: str
    scopes: frozenset[Scope]
    tier: Tier = "unlimited"
    key_id: str = ""
    """Empty on an open edge, and for who came with a signed address."""

    is_signed: bool = False
    """True for who came with a signed address: may fetch it, in the name of its tenant."""

    expires_at: float | None = None

    @property
    def shelf_prefix(self) -> str:
        """What keeps a tenant's pictures apart on the front's shelf."""
        return "" if self.tenant == LOCAL_TENANT else f"{self.tenant}:"

    @property
    def counted_as(self) -> str:
        """Whose quota a request uses up: an address that went round must not stop its tenant's own programs."""
        return f"{self.tenant}/signed" if self.is_signed else self.tenant

    def may(self, scope: Scope) -> bool:
        """True if the key has this scope, or is an admin's."""
        return scope in self.scopes or "admin" in self.scopes


class Unauthorized(PermanentError):
    """No key, or one that opens nothing (any more)."""

    def __init__(self, what: str) -> None:
        detail = f"authorization: {what}; allowed: 'Bearer ' and a key from `halfdrop keys create` (HALFDROP_API_KEY)"
        super().__init__(detail, code="unauthorized")


class Forbidden(PermanentError):
    """The key is valid and lacks a scope."""


class Door:
    """Lets in everybody as the local tenant (`is_open`), or those who show a key or a signed address."""

    def __init__(self, *, is_open: bool, address_ttl_s: float = 3600.0) -> None:
        self.is_open = is_open
        scopes: frozenset[Scope] = frozenset({"previews", "orders", "admin"})
        self.local_access = Access(tenant=LOCAL_TENANT, scopes=scopes) if is_open else None
        """Everybody's on an open edge."""

        self.signer = Signer(address_ttl_s)
        self._by_digest: dict[bytes, Access] = {}
        self._ids: frozenset[str] = frozenset()
        self._tiers: dict[str, Tier] = {}
        """The most generous tier of each tenant's keys."""

    def admit(self, headers: Iterable[tuple[bytes, bytes]]) -> Access | None:
        """Return who asks, None without a key. Raises Unauthorized for a key that opens nothing."""
        if self.local_access is not None:
            return self.local_access
        key = _find_key(headers)
        if key is None:
            return None
        access = self._by_digest.get(digest_key(key))
        if access is None or (access.expires_at is not None and access.expires_at <= time.time()):
            raise Unauthorized("got a key that is unknown, expired or revoked")
        return access

    def asks_signature(self, method: str, query: bytes) -> bool:
        """True for a request that wants in by a signed address: it fetches something, and nothing else."""
        return MARK in query and method in ("GET", "HEAD") and not self.is_open

    def admit_signed(self, path: str, query: bytes) -> tuple[Access, Signed]:
        """Return in whose name a signed address is asked for. Raises AddressRefused.

        A tenant without a valid key has no addresses either: revoking the last one ends them.
        """
        signed = self.signer.verify(path, query)
        tier = self._tiers.get(signed.tenant)
        if tier is None:
            raise AddressRefused("signature: no API key of its tenant is valid any more", code="bad-signature")
        scopes: frozenset[Scope] = frozenset({"previews", "orders"})
        return Access(tenant=signed.tenant, scopes=scopes, tier=tier, is_signed=True), signed

    def sign(self, address: str, tenant: str) -> str:
        """Return `address` as somebody without a key can fetch it: signed, or as it is on an open edge."""
        return address if self.is_open else self.signer.sign(address, tenant)

    def still_admits(self, access: Access) -> bool:
        """True if whoever was let in would be let in now, for answers that last."""
        is_fresh = access.expires_at is None or time.time() < access.expires_at
        return self.is_open or (access.key_id in self._ids and is_fresh)

    def replace(self, records: Iterable[KeyRecord], now: float) -> int:
        """Take these keys in place of those known; return how many are valid."""
        valid = [record for record in records if record.is_valid(now)]
        self._by_digest = {bytes.fromhex(record.sha256): _access_of(record) for record in valid}
        self._ids = frozenset(record.id for record in valid)
        self._tiers = {}
        for record in sorted(valid, key=lambda record: TIERS.index(record.tier)):
            self._tiers[record.tenant] = record.tier
        return len(valid)


async def follow_keys(objects: ObjectStore, door: Door) -> None:
    """Keep the door's keys those of the store, for ever. While the store is away the last known ones count."""
    seen, loaded_s, is_away = b"", float("-inf"), False
    while True:
        try:
            marker = await objects.get(CHANGED_PATH) or b""
            if marker != seen or time.monotonic() - loaded_s > RELOAD_S:
                door.signer.replace(await ensure_signing_keys(objects, now=time.time()))
                log.info("keys_loaded", valid=door.replace(await read_keys(objects), time.time()))
                seen, loaded_s = marker, time.monotonic()
            is_away = False
        except (Unavailable, msgspec.MsgspecError) as error:
            if not is_away:
                log.warning("keys_not_read", error=str(error))
            is_away = True
        await asyncio.sleep(POLL_S)


async def load_keys(objects: ObjectStore, door: Door) -> None:
    """Fill the door before an edge serves, and make the region's first signing key if it has none.

    Raises PermanentError(no-keys) when nobody could come in.
    """
    if not door.replace(await read_keys(objects), time.time()):
        detail = (
            "this edge lets in nobody without an API key, and there is no valid one in its object store; make one with "
            "`halfdrop keys create --tenant NAME --objects-url URL`, or serve 127.0.0.1 with HALFDROP_EDGE_ACCESS=open"
        )
        raise PermanentError(detail, code="no-keys")
    door.signer.replace(await ensure_signing_keys(objects, now=time.time()))


def access_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Access:
    """Return who asks. Raises Unauthorized if nobody said."""
    access: Access | None = connection.scope.get(SCOPE_NAME)  # type: ignore[assignment]
    if access is None:
        raise Unauthorized("got no key")
    return access


def needs(scope: Scope | None) -> Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], None]:
    """Return a guard for handlers that are for keys with `scope`; None: for any key."""

    def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        access = access_of(connection)
        if scope is not None and not access.may(scope):
            have = ", ".join(sorted(access.scopes))
            raise Forbidden(f"this needs a key with the scope {scope!r}; yours has: {have}", code="forbidden")

    return guard


def _find_key(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    cookie = None
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.partition(b" ")
            if scheme.lower() != b"bearer":
                raise Unauthorized("got another scheme than Bearer")
            return key.strip()
        if name == b"cookie":
            found = next((p for part in value.split(b";") if (p := part.strip()).startswith(COOKIE)), None)
            cookie = found.removeprefix(COOKIE) if found else cookie
    return cookie


def _access_of(record: KeyRecord) -> Access:
    return Access(
        tenant=record.tenant,
        scopes=frozenset(record.scopes),
        tier=record.tier,
        key_id=record.id,
        expires_at=record.expires_at,
    )
