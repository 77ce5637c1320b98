"""Models in OpenAI's shape, for `client.models.list()`."""

from typing import Literal

import msgspec

from halfdrop.edge.predictions import OWNER


class ListedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model in OpenAI's shape."""

    id: str
    """A name that `model` of any request may have."""

    created: int
    """Unix seconds: when the bundle was put where the edge found it."""

    object: Literal["model"] = "model"
    owned_by: str = OWNER
    digest: str
    """Ours: of the bundle. `version` of an order may be it."""

    kind: Literal["house", "checkpoint", "lora"] = "house"
    """Ours: the model that this edge draws with; one that users imported and a hub has; what can be added to it."""

    family: str = ""
    """Ours: of a checkpoint, "sd" or "sdxl"."""

    has_previews: bool = True
    """Ours: whether POST /v1/previews draws with it. Where not, an order for a small master is a first look."""

    native_px: int | None = None
    """Ours: the size of a unit that a checkpoint was trained for; masters hold whole units."""


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of GET /v1/models."""

    data: list[ListedModel]
    object: Literal["list"] = "list"
