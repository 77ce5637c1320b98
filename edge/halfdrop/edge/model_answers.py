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


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of GET /v1/models."""

    data: list[ListedModel]
    object: Literal["list"] = "list"
