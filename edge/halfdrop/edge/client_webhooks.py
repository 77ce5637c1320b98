"""The part of the Python client that is about webhooks: `client.webhooks.secret()`, `.dead()`, `.replay(id)` …"""

from collections.abc import Callable
from typing import Any, TypeVar

import httpx
import msgspec

Call = Callable[..., httpx.Response]
Answer = TypeVar("Answer", bound=msgspec.Struct)


class DeadDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that was given up on; the meaning of its members stands in the API's description."""

    id: str
    type: str = ""
    prediction: str = ""
    url: str = ""
    created_at: str | None = None
    attempts: int = 0
    code: str = ""
    reason: str = ""
    failed_at: str | None = None


class WebhookEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A server that webhooks go to."""

    endpoint: str
    breaker: str = ""
    waiting: int = 0
    failures_in_a_row: int = 0
    last_success_at: str | None = None
    last_failure_at: str | None = None
    last_failure: str = ""
    retry_at: str | None = None
    disabled: tuple[str, ...] = ()


class TestDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """How a delivery that tells of nothing ended."""

    delivered: bool
    code: str = ""
    status: int | None = None
    reason: str = ""
    elapsed_s: float = 0.0


class _Secret(msgspec.Struct, frozen=True):
    key: str


class _Endpoints(msgspec.Struct, frozen=True):
    results: list[WebhookEndpoint]


class _DeadPage(msgspec.Struct, frozen=True):
    results: list[DeadDelivery]
    next: str | None = None


class WebhookCalls:
    """Calls about the webhooks of the key's tenant. Each raises HalfdropError."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def secret(self) -> str:
        """Return the secret that signs deliveries: whsec_…"""
        return self._get("/v1/webhooks/default/secret", _Secret).key

    def rotate(self, *, is_at_once: bool = False) -> str:
        """Make a new secret and return it; the one before signs along for a day, unless it is to end at once."""
        choice = {"at_once": "true"} if is_at_once else None
        response = self._call("POST", "/v1/webhooks/default/secret/rotate", parameters=choice)
        return msgspec.json.decode(response.content, type=_Secret).key

    def endpoints(self) -> list[WebhookEndpoint]:
        """Return the servers that webhooks go to, and how they do."""
        return self._get("/v1/webhooks/endpoints", _Endpoints).results

    def enable(self, url: str) -> list[WebhookEndpoint]:
        """Deliver again to an address that answered 410. Raises NotFound if it is not disabled."""
        response = self._call("POST", "/v1/webhooks/endpoints/enable", body={"url": url})
        return msgspec.json.decode(response.content, type=_Endpoints).results

    def test(self, url: str) -> TestDelivery:
        """Send one delivery that tells of nothing, and return how it went."""
        response = self._call("POST", "/v1/webhooks/test", body={"url": url})
        return msgspec.json.decode(response.content, type=TestDelivery)

    def dead(self, *, limit: int = 1_000) -> list[DeadDelivery]:
        """Return deliveries that were given up on, the last first."""
        found: list[DeadDelivery] = []
        address: str | None = "/v1/webhooks/dead"
        while address is not None and len(found) < limit:
            page = self._get(address, _DeadPage)
            found += page.results
            address = page.next
        return found[:limit]

    def replay(self, webhook_id: str) -> DeadDelivery:
        """Have a dead delivery tried again from the start. Raises NotFound."""
        response = self._call("POST", f"/v1/webhooks/dead/{webhook_id}/replay")
        return msgspec.json.decode(response.content, type=DeadDelivery)

    def drop(self, webhook_id: str) -> None:
        """Forget a dead delivery. Raises NotFound."""
        self._call("DELETE", f"/v1/webhooks/dead/{webhook_id}")

    def _get(self, url: str, kind: type[Answer], **options: Any) -> Answer:
        return msgspec.json.decode(self._call("GET", url, **options).content, type=kind)
