"""What edges of a region tell each other: the pictures that they are asked for most. Names only, no prompts.

Messages come from the network, so everything in them is bounded and checked before it is used.
"""

import re

import msgspec

HOT_KEYS_MAX = 256
"""Pictures in one report, and in the hot set of a region: 8 MB of 30 KB each."""

REPORT_MAX_BYTES = 64 * 1024
"""256 keys of the longest tenant take half of this."""

WEIGHT_MAX = 1e9
"""More requests than an edge could answer in its memory's time."""

_PICTURE_KEY = re.compile(r"([a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?:)?[0-9a-f]{32}/[1-9][0-9]{2}")


class HotReport(msgspec.Struct, frozen=True, kw_only=True, tag="hot.v1"):
    """What one edge is asked for."""

    edge: str
    pictures: dict[str, float]
    """Weight by cache key, tenant included: requests, each counting half after a half-life. Open-ended, so a dict."""


def encode_hot_report(report: HotReport) -> bytes:
    return msgspec.json.encode(report)


def decode_hot_report(data: bytes) -> HotReport:
    """Return the report in `data`. Raises msgspec.MsgspecError for anything else, too long or with keys that no
    picture has."""
    if len(data) > REPORT_MAX_BYTES:
        raise msgspec.ValidationError(f"report: got {len(data)} bytes; allowed: {REPORT_MAX_BYTES}")
    report = msgspec.json.decode(data, type=HotReport)
    if len(report.pictures) > HOT_KEYS_MAX or not all(map(_is_allowed, report.pictures.items())):
        raise msgspec.ValidationError(f"report of {report.edge[:40]!r}: got other than {HOT_KEYS_MAX} keys of pictures")
    return report


def _is_allowed(picture: tuple[str, float]) -> bool:
    key, weight = picture
    return _PICTURE_KEY.fullmatch(key) is not None and 0 < weight <= WEIGHT_MAX  # refuses NaN, too
