"""Examples for the API's description: one order and one preview, told alike in every operation."""

from typing import Any

import msgspec

from halfdrop.contracts.jobs import Artifact, JobState, JobStatus, Webhook
from halfdrop.contracts.patterns import PatternSpec, pattern_key
from halfdrop.contracts.repeats import Repeat
from halfdrop.edge.predictions import MASTER, PROOF, SVG, make_prediction
from halfdrop.edge.preview_routes import Preview

Json = dict[str, Any]

PREVIEW_REQUEST: Json = {"prompt": "small red hearts on pink, half-drop", "seed": 7}
IMAGES_REQUESTS: dict[str, Json] = {
    "pictures": {"prompt": "small red hearts on pink, half-drop", "n": 2, "size": "1024x1024", "model": "house"},
    "addresses": {"prompt": "navy stripes on cream", "response_format": "url", "output_format": "webp"},
    "stream": {"prompt": "gold ogee on burgundy, brick", "stream": True, "partial_images": 1},
    "our own members": {"prompt": "daisies", "seed": 7, "pattern": {"repeat": {"layout": "brick", "units": 4}}},
}
ORDER_REQUEST: Json = {
    "input": {"prompt": "navy stripes on cream", "repeat": {"layout": "straight", "units": 4}, "size_px": 4096},
    "webhook": "https://example.com/patterns",
    "webhook_events_filter": ["completed"],
}

ORDER_ID = "0kf5xk3q6v8c2m9t4r7w1ybzen"
VERSION = "3f" * 32
IDEMPOTENCY_KEY = "8e03978e-40d5-43e8-bc93-6894a57f9324"
ADDRESS = "https://edge.example.com"

_SPEC = PatternSpec(prompt="navy stripes on cream", repeat=Repeat(units=4), num_inference_steps=2, model_digest=VERSION)
KEY = pattern_key(_SPEC)
PICTURE_NAME = f"{KEY}.webp"

_FINISHED = JobStatus(
    id=ORDER_ID,
    origin="local",
    state=JobState.COMPLETED,
    spec=_SPEC,
    size_px=4096,
    pattern_key=KEY,
    attempt=1,
    step=6,
    steps=6,
    created_at=1_790_000_000.0,
    started_at=1_790_000_000.1,
    completed_at=1_790_000_000.4,
    artifacts=tuple(
        Artifact(name=name, path=f"jobs/local/{ORDER_ID}/{name}", media_type="", size_bytes=1, sha256="")
        for name in (MASTER, SVG, PROOF, "plate-1-000080.png")
    ),
    log=("master 0.22 s",),
    webhook=Webhook(url=ORDER_REQUEST["webhook"], events=("completed",)),
)


def prediction() -> Json:
    """Return a finished order."""
    found = make_prediction(_FINISHED, model="house", base_url=ADDRESS, queue_position=None, now=1_790_000_001.0)
    return _as_json(found)


def preview() -> Json:
    """Return the JSON form of a preview."""
    found = Preview(
        key=KEY,
        url=f"/p/{PICTURE_NAME}?px=256",
        size_px=256,
        spec=_SPEC,
        palette=("#fff8e7", "#000080", "#000080", "#fff8e7", "#000080"),
        unknown_words=(),
        read_as={},
        reuse="none",
    )
    return _as_json(found)


def _as_json(found: msgspec.Struct) -> Json:
    return msgspec.json.decode(msgspec.json.encode(found))  # type: ignore[no-any-return]
