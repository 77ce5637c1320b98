"""What a client asks of an order beside its picture: how long to wait for it, until when to want it, whom to tell.

`Prefer: wait` is RFC 7240's, in the form that Replicate's clients send; `Cancel-After`, `webhook` and
`webhook_events_filter` are Replicate's.
"""

import re
from collections.abc import Sequence
from typing import get_args

import msgspec

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.jobs import Webhook, WebhookEvent
from halfdrop.edge.webhooks.addresses import AddressPolicy, check_address

WAIT_DEFAULT_S, WAIT_MAX_S = 60.0, 60.0

CANCEL_AFTER = "Cancel-After"
CANCEL_AFTER_PATTERN = (
    "^(?:(?:[5-9]|[1-9][0-9]{1,4})s?|[1-9][0-9]{0,2}m(?:[0-9]{1,2}s)?|[1-9][0-9]?h(?:[0-9]{1,2}m)?(?:[0-9]{1,2}s)?)$"
)
"""From five seconds (a shorter one could end on the way to a hub) to four days: one rule for us and for clients."""

WEBHOOK_EVENTS: tuple[WebhookEvent, ...] = get_args(WebhookEvent)

_UNIT_S = {"h": 3600, "m": 60, "s": 1, "": 1}


def read_wait(prefer: str) -> float:
    """Return the seconds to wait that a Prefer header asks for; 0 without one. Other preferences are ignored."""
    for preference in prefer.lower().split(","):
        if found := re.fullmatch(r"\s*wait(?:\s*=\s*\"?([0-9]{1,4})\"?)?\s*", preference):
            return min(float(found[1] or WAIT_DEFAULT_S), WAIT_MAX_S)
    return 0.0


def read_cancel_after(text: str | None) -> int | None:
    """Return the seconds of a Cancel-After header ("90", "90s", "1m30s"), None without one. Raises InvalidInput."""
    if text is None:
        return None
    if not re.fullmatch(CANCEL_AFTER_PATTERN, text):
        raise InvalidInput(CANCEL_AFTER, got=text, allowed='at least 5 seconds: "90" or such as "90s", "1m30s", "2h"')
    return sum(int(count) * _UNIT_S[unit] for count, unit in re.findall(r"([0-9]+)([hms]?)", text))


def read_webhook(
    url: str | msgspec.UnsetType | None,
    events: Sequence[WebhookEvent] | msgspec.UnsetType | None,
    policy: AddressPolicy,
    edge_url: str,
) -> Webhook | msgspec.UnsetType:
    """Return the webhook that an order's members name. Raises InvalidInput for an address that nothing is sent to.

    edge_url: scheme and host of this edge as the client wrote them.
    """
    if not isinstance(url, str):
        return msgspec.UNSET
    asked = events if isinstance(events, Sequence) else WEBHOOK_EVENTS
    return Webhook(
        url=check_address(url, policy),
        events=tuple(name for name in WEBHOOK_EVENTS if name in asked),
        edge_url=edge_url,
    )
