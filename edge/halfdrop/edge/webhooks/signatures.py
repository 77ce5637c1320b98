"""Signatures of Standard Webhooks, scheme v1: HMAC-SHA256 over `id.timestamp.body`, one for each secret in force."""

import base64
import hashlib
import hmac
from collections.abc import Sequence

SECRET_PREFIX = "whsec_"  # noqa: S105  what a secret begins with, not one


def sign_delivery(secrets: Sequence[bytes], *, webhook_id: str, now: float, body: bytes) -> dict[str, str]:
    """Return the three header fields of an attempt. Receivers accept it if any of the signatures is their secret's."""
    timestamp = str(int(now))
    signed = b"%b.%b.%b" % (webhook_id.encode(), timestamp.encode(), body)
    signatures = (base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode() for secret in secrets)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def format_secret(secret: bytes) -> str:
    """Return a secret as receivers' libraries take it: whsec_ and base64."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()
