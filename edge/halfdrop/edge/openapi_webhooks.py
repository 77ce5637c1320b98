"""The description of the routes about webhooks."""

from halfdrop.edge import api_examples as examples
from halfdrop.edge.openapi_parts import body_of, describe_operation, json_of, parameter
from halfdrop.edge.schemas import Json
from halfdrop.edge.webhook_routes import SigningSecret, TestDelivery, WebhookAddress
from halfdrop.edge.webhooks.events import EVENT_ID_PATTERN
from halfdrop.edge.webhooks.reports import DeadDelivery, DeadDeliveryPage, WebhookEndpoint, WebhookEndpoints

WEBHOOK_STRUCTS = (
    SigningSecret,
    WebhookAddress,
    TestDelivery,
    WebhookEndpoints,
    WebhookEndpoint,
    DeadDelivery,
    DeadDeliveryPage,
)

_SECRET: Json = {"key": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="}
_ADDRESS: Json = {"url": examples.ORDER_REQUEST["webhook"]}
_TESTED: Json = {"delivered": True, "code": "delivered", "status": 204, "reason": "", "elapsed_s": 0.112}
_ENDPOINTS: Json = {
    "results": [
        {
            "endpoint": "https://example.com:443",
            "breaker": "closed",
            "waiting": 0,
            "failures_in_a_row": 0,
            "last_success_at": "2026-09-21T14:13:20.400Z",
            "last_failure_at": None,
            "last_failure": "",
            "retry_at": None,
            "disabled": [],
        }
    ]
}
EVENT_ID = f"{examples.ORDER_ID}.completed"
_DEAD: Json = {
    "id": EVENT_ID,
    "type": "prediction.completed",
    "prediction": examples.ORDER_ID,
    "url": _ADDRESS["url"],
    "created_at": "2026-09-21T14:13:20.400Z",
    "attempts": 10,
    "code": "status-5xx",
    "reason": "answered 503",
    "failed_at": "2026-09-24T17:50:01.000Z",
}
_BODY_PROBLEMS = (400, 408, 413, 415, 422, 503)


def describe_webhooks() -> Json:
    """Return the paths about webhooks."""
    return {
        "/v1/webhooks/default/secret": {
            "get": describe_operation(
                "Tell the secret that signs webhooks, as Standard Webhooks' libraries take it",
                200,
                json_of(SigningSecret, _SECRET),
                (503,),
            )
        },
        "/v1/webhooks/default/secret/rotate": {"post": _rotate()},
        "/v1/webhooks/endpoints": {
            "get": describe_operation(
                "Tell how the servers do that webhooks go to", 200, json_of(WebhookEndpoints, _ENDPOINTS), (503,)
            )
        },
        "/v1/webhooks/endpoints/enable": {"post": _enable()},
        "/v1/webhooks/test": {"post": _test()},
        "/v1/webhooks/dead": {"get": _list_dead()},
        "/v1/webhooks/dead/{webhook_id}/replay": {
            "post": _about_dead("Try a dead delivery again from the start, under its old webhook-id", 200)
        },
        "/v1/webhooks/dead/{webhook_id}": {"delete": _about_dead("Forget a dead delivery", 204)},
    }


def _rotate() -> Json:
    operation = describe_operation(
        "Make a new secret; the one before signs along for 24 hours", 200, json_of(SigningSecret, _SECRET), (422, 503)
    )
    choice = {"type": "string", "enum": ["true", "false"], "default": "false"}
    meaning = "End the secrets before it now: for one that somebody has seen"
    operation["parameters"] = [parameter("at_once", "query", choice, meaning, "false")]
    return operation


def _enable() -> Json:
    operation = describe_operation(
        "Deliver again to an address that answered 410",
        200,
        json_of(WebhookEndpoints, _ENDPOINTS),
        (404, *_BODY_PROBLEMS),
    )
    operation["requestBody"] = body_of(WebhookAddress, _ADDRESS)
    return operation


def _test() -> Json:
    operation = describe_operation(
        "Send one delivery that tells of nothing, and tell how it went",
        200,
        json_of(TestDelivery, _TESTED),
        _BODY_PROBLEMS,
    )
    operation["requestBody"] = body_of(WebhookAddress, _ADDRESS)
    return operation


def _list_dead() -> Json:
    page = {"results": [_DEAD], "next": None}
    operation = describe_operation(
        "List deliveries given up on, the last first", 200, json_of(DeadDeliveryPage, page), (422, 503)
    )
    cursor = {"type": "string", "pattern": EVENT_ID_PATTERN}
    operation["parameters"] = [parameter("cursor", "query", cursor, "From `next` of the page before", EVENT_ID)]
    return operation


def _about_dead(summary: str, status: int) -> Json:
    answers = json_of(DeadDelivery, _DEAD) if status == 200 else {}
    operation = describe_operation(summary, status, answers, (404, 503))
    if not answers:
        del operation["responses"][str(status)]["content"]
    known = {"type": "string", "minLength": 1, "maxLength": 80}
    operation["parameters"] = [parameter("webhook_id", "path", known, "The webhook-id", EVENT_ID)]
    return operation
