"""The part of the Python client that is about templates: `client.templates.list()`, `.get("wallpaper")`."""

from collections.abc import Callable

import httpx
import msgspec

from halfdrop.contracts.templates import Template

Call = Callable[..., httpx.Response]


class TemplateSize(msgspec.Struct, frozen=True, kw_only=True):
    """A size that the template's press can print."""

    size_px: int
    repeat_mm: float


class ListedTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """A template as an edge tells of it; what its members mean stands in contracts.templates."""

    reference: str
    digest: str = ""
    versions: tuple[int, ...] = ()
    sizes: tuple[TemplateSize, ...] = ()
    """Empty: any within `template.order.size_px`."""

    template: Template


class _TemplateList(msgspec.Struct, frozen=True, kw_only=True):
    templates: tuple[ListedTemplate, ...]


class TemplateCalls:
    """Calls about templates."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def list(self) -> tuple[ListedTemplate, ...]:
        """Return the newest version of each template. Raises HalfdropError."""
        return msgspec.json.decode(self._call("GET", "/v1/templates").content, type=_TemplateList).templates

    def get(self, reference: str) -> ListedTemplate:
        """Return a template by its name or name@version. Raises NotFound."""
        answer = self._call("GET", f"/v1/templates/{reference}")
        return msgspec.json.decode(answer.content, type=ListedTemplate)
