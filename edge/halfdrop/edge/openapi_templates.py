"""The description of the routes about templates."""

from halfdrop.contracts.templates import Template
from halfdrop.edge.openapi_parts import describe_operation, describe_refusal, json_of, parameter
from halfdrop.edge.schemas import Json
from halfdrop.edge.template_routes import ListedTemplate, TemplateList

TEMPLATE_STRUCTS = (Template, ListedTemplate, TemplateList)


def describe_templates() -> Json:
    """Return the paths about templates."""
    one = describe_operation("Describe a template by its name, or name@version", 200, json_of(ListedTemplate), ())
    one["parameters"] = [
        parameter("reference", "path", {"type": "string"}, "Name, or name and version", "wallpaper@1"),
    ]
    one["responses"]["404"] = describe_refusal(404)
    return {
        "/v1/templates": {
            "get": describe_operation("List the templates that orders can name", 200, json_of(TemplateList), ())
        },
        "/v1/templates/{reference}": {"get": one},
    }
