"""HTTP: the templates that this edge takes orders by."""

import msgspec
from litestar import MediaType, Response, get

from halfdrop.contracts.template_check import allowed_sizes_px
from halfdrop.contracts.templates import Template, side_mm, template_digest
from halfdrop.edge.access import needs
from halfdrop.edge.services import EdgeServices
from halfdrop.models.template_shelf import TemplateShelf


class TemplateSize(msgspec.Struct, frozen=True, kw_only=True):
    """A size that an order may ask for."""

    size_px: int
    repeat_mm: float


class ListedTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """A template, and what follows from it."""

    reference: str
    """Name and version, as an order may name it: "wallpaper@1". The name alone means the newest."""

    digest: str
    """SHA-256 of what it says."""

    versions: list[int]
    """That there are of it, the newest first."""

    sizes: list[TemplateSize]
    """Of a press with given lengths; empty: any within `template.order.size_px`."""

    template: Template


class TemplateList(msgspec.Struct, frozen=True, kw_only=True):
    """The newest version of each template."""

    templates: list[ListedTemplate]


@get("/v1/templates", guards=[needs(None)])
async def list_templates(edge: EdgeServices) -> Response[bytes]:
    """List the templates that orders can name, by name."""
    listed = [describe_template(edge.templates, template) for template in edge.templates.newest()]
    return Response(msgspec.json.encode(TemplateList(templates=listed)), media_type=MediaType.JSON)


@get("/v1/templates/{reference:str}", guards=[needs(None)])
async def get_template(edge: EdgeServices, reference: str) -> Response[bytes]:
    """Describe a template by its name, or name@version."""
    found = describe_template(edge.templates, edge.templates.find(reference))
    return Response(msgspec.json.encode(found), media_type=MediaType.JSON)


def describe_template(shelf: TemplateShelf, template: Template) -> ListedTemplate:
    """Return what is told of a template."""
    dpi = template.press.dpi
    sizes = [TemplateSize(size_px=size, repeat_mm=round(side_mm(size, dpi), 2)) for size in allowed_sizes_px(template)]
    return ListedTemplate(
        reference=template.reference,
        digest=template_digest(template),
        versions=shelf.versions(template.name),
        sizes=sizes,
        template=template,
    )
