"""Entity tags of predictions, so that who polls gets a body only when there is news.

A tag stands for everything that a prediction says, its estimates to five seconds: they change with the clock, and a
client that has "about 40 s" needs no body to learn of 39.
"""

import hashlib

import msgspec

from halfdrop.edge.predictions import Prediction

ESTIMATES_TO_S = 5.0


def tag_of(prediction: Prediction, *, signed_for_s: float | None, now: float) -> str:
    """Return the weak tag of a prediction whose addresses are not signed yet.

    signed_for_s: how long signed addresses are good for; they are given anew after half of that. None: unsigned.
    """
    coarse = msgspec.structs.replace(
        prediction,
        eta_seconds=_coarse(prediction.eta_seconds),
        starts_in_seconds=_coarse(prediction.starts_in_seconds),
    )
    age = b"" if signed_for_s is None else b"%d" % (now // (signed_for_s / 2))
    return f'W/"{hashlib.sha256(msgspec.json.encode(coarse) + age).hexdigest()[:32]}"'


def _coarse(seconds: float | None) -> float | None:
    return None if seconds is None else seconds // ESTIMATES_TO_S
