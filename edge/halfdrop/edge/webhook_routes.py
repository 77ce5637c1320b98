"""HTTP: a tenant's webhooks: the secret that signs them, the servers they go to, and the deliveries given up on."""

from typing import Any

import msgspec
from litestar import MediaType, Request, Response, delete, get, post

from halfdrop.contracts.errors import InvalidInput, NotFound
from halfdrop.edge.access import access_of, needs
from halfdrop.edge.requests import read_body
from halfdrop.edge.services import EdgeServices
from halfdrop.edge.webhooks.addresses import check_address
from halfdrop.edge.webhooks.events import is_event_id
from halfdrop.edge.webhooks.reports import DeadDeliveryPage, WebhookEndpoints, report_dead, report_endpoints
from halfdrop.edge.webhooks.signatures import format_secret

PAGE_SIZE = 50


class SigningSecret(msgspec.Struct, frozen=True, kw_only=True):
    """What signs a tenant's deliveries, as Replicate's clients and Standard Webhooks' libraries take it."""

    key: str


class WebhookAddress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of what is about one address."""

    url: str


class TestDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """How a delivery that tells of nothing ended."""

    delivered: bool
    code: str
    """delivered, or the class of its failure: timeout, private, status-5xx …"""

    status: int | None
    """What the receiver answered."""

    reason: str
    elapsed_s: float


@get("/v1/webhooks/default/secret", guards=[needs("orders")])
async def get_webhook_secret(request: Request[Any, Any, Any], edge: EdgeServices) -> Response[bytes]:
    """Tell the secret that signs the tenant's deliveries; made when it is first asked for."""
    signing = await edge.webhooks.secrets.signing(access_of(request).tenant)
    return _answer(SigningSecret(key=format_secret(signing[0].secret)))


@post("/v1/webhooks/default/secret/rotate", status_code=200, guards=[needs("orders")])
async def rotate_webhook_secret(request: Request[Any, Any, Any], edge: EdgeServices) -> Response[bytes]:
    """Make a new secret; those before it sign along for a day, or are ended at once."""
    asked = request.query_params.get("at_once", "false")
    if asked not in ("true", "false"):
        raise InvalidInput("at_once", got=asked, allowed="true or false")
    signing = await edge.webhooks.secrets.rotate(access_of(request).tenant, is_at_once=asked == "true")
    return _answer(SigningSecret(key=format_secret(signing[0].secret)))


@get("/v1/webhooks/endpoints", guards=[needs("orders")])
async def list_webhook_endpoints(request: Request[Any, Any, Any], edge: EdgeServices) -> Response[bytes]:
    """Tell how the servers do that the tenant's webhooks go to."""
    return _answer(_endpoints(edge, access_of(request).tenant))


@post("/v1/webhooks/endpoints/enable", status_code=200, guards=[needs("orders")])
async def enable_webhook_endpoint(request: Request[Any, Any, Any], edge: EdgeServices) -> Response[bytes]:
    """Deliver again to an address that answered 410."""
    body = await read_body(request, WebhookAddress)
    check_address(body.url, edge.webhooks.policy, field="url")
    tenant = access_of(request).tenant
    if not await edge.webhooks.disabled.remove(tenant, body.url):
        raise NotFound("this address is not disabled; `halfdrop webhooks list` shows those that are")
    return _answer(_endpoints(edge, tenant))


@post("/v1/webhooks/test", status_code=200, guards=[needs("orders")])
async def deliver_test_webhook(request: Request[Any, Any, Any], edge: EdgeServices) -> Response[bytes]:
    """Send one delivery that tells of nothing, and tell how it went."""
    body = await read_body(request, WebhookAddress)
    url = check_address(body.url, edge.webhooks.policy, field="url")
    outcome = await edge.webhooks.send_test(access_of(request).tenant, url)
    told = TestDelivery(
        delivered=outcome.is_delivered,
        code=outcome.code,
        status=outcome.status or None,
        reason=outcome.detail,
        elapsed_s=round(outcome.elapsed_s, 3),
    )
    return _answer(told)


@get("/v1/webhooks/dead", guards=[needs("orders")])
async def list_dead_webhooks(request: Request[Any, Any, Any], edge: EdgeServices) -> Response[bytes]:
    """List the deliveries given up on, the last first, a page at a time."""
    cursor = request.query_params.get("cursor")
    if cursor is not None and not is_event_id(cursor):
        raise InvalidInput("cursor", got=cursor, allowed="the cursor of a `next` address")
    records = await edge.webhooks.dead.newest(access_of(request).tenant, before=cursor, limit=PAGE_SIZE)
    base = str(request.base_url).rstrip("/")
    address = f"{base}/v1/webhooks/dead?cursor={records[-1].id}" if len(records) == PAGE_SIZE else None
    return _answer(DeadDeliveryPage(results=[report_dead(record) for record in records], next=address))


@post("/v1/webhooks/dead/{webhook_id:str}/replay", status_code=200, guards=[needs("orders")])
async def replay_dead_webhook(request: Request[Any, Any, Any], edge: EdgeServices, webhook_id: str) -> Response[bytes]:
    """Have a dead delivery tried again from the start, under its old webhook-id."""
    tenant = access_of(request).tenant
    told = report_dead(await edge.webhooks.dead.find(tenant, webhook_id))
    await edge.webhooks.replay(tenant, webhook_id)
    return _answer(told)


@delete("/v1/webhooks/dead/{webhook_id:str}", status_code=204, guards=[needs("orders")])
async def drop_dead_webhook(request: Request[Any, Any, Any], edge: EdgeServices, webhook_id: str) -> None:
    """Forget a dead delivery."""
    await edge.webhooks.dead.remove(await edge.webhooks.dead.find(access_of(request).tenant, webhook_id))


WEBHOOK_HANDLERS = [
    get_webhook_secret,
    rotate_webhook_secret,
    list_webhook_endpoints,
    enable_webhook_endpoint,
    deliver_test_webhook,
    list_dead_webhooks,
    replay_dead_webhook,
    drop_dead_webhook,
]


def _endpoints(edge: EdgeServices, tenant: str) -> WebhookEndpoints:
    deliveries = edge.webhooks
    return WebhookEndpoints(results=report_endpoints(deliveries.schedule, tenant, deliveries.disabled.of(tenant)))


def _answer(value: msgspec.Struct) -> Response[bytes]:
    return Response(msgspec.json.encode(value), media_type=MediaType.JSON, headers={"Cache-Control": "no-store"})
