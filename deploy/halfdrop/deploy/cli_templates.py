"""`halfdrop templates`: what an order can be finished by, and whether a template file is right."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from halfdrop.contracts.template_check import say_sizes
from halfdrop.contracts.templates import AtLeast, AtMost, Template, template_digest
from halfdrop.deploy.cli_options import DEFAULT_URL, Json, Url, open_client, printable
from halfdrop.models.template_shelf import read_template

templates_app = typer.Typer(name="templates", no_args_is_help=True, help="Templates: from an order to a product.")

Reference = Annotated[str, typer.Argument(metavar="TEMPLATE", help="Its name, or name@version.", show_default=False)]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A template: a TOML file.", show_default=False)]


@templates_app.command("list")
def list_templates(*, is_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """List the templates that an edge takes orders by."""
    with open_client(url) as client:
        listed = client.templates.list()
    if is_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(listed), indent=2))
        return
    wide = max((len(each.reference) for each in listed), default=0)
    for each in listed:
        typer.echo(
            f"{each.reference:<{wide}}  {printable(each.template.title)}: {printable(each.template.description)}"
        )


@templates_app.command("show")
def show(name: Reference, *, is_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Show what orders by a template may ask for, which files come out, and what they must pass."""
    with open_client(url) as client:
        found = client.templates.get(name)
    if is_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
        return
    for line in describe_template(found.template):
        typer.echo(line)


@templates_app.command("check")
def check(file: File, *, is_json: Json = False) -> None:
    """Check a template file, without an edge: what is wrong, or what orders by it may ask for."""
    template = read_template(file)
    if is_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(template), indent=2))
        return
    for line in describe_template(template):
        typer.echo(line)


def describe_template(template: Template) -> list[str]:
    """Return lines on a template for a person."""
    order, press = template.order, template.press
    lines = [
        f"{template.reference}  {printable(template.title)}  ({template_digest(template)[:12]})",
        f"  {printable(template.description)}",
        f"  press     {press.kind}, {press.dpi} dpi, up to {press.colours_max} colours",
        f"  sizes     {say_sizes(template)}; left out: {order.size_px.default} px",
        f"  repeats   {', '.join(order.layouts)}; {order.units.min} to {order.units.max} units across",
    ]
    if order.colours is not None:
        lines.append(f"  colours   {order.colours.min} to {order.colours.max} in a palette")
    if order.palette:
        lines.append(f"  palette   {', '.join(order.palette)}, unless an order brings its own")
    lines += [
        f"  steps     {', '.join(template.finishing.steps) or 'none'}",
        f"  files     {', '.join(template.finishing.outputs)}",
        *(f"  gate      {name} {_say_rule(rule)}" for name, rule in template.gates.rules().items()),
    ]
    return lines


def _say_rule(rule: AtMost | AtLeast) -> str:
    limit = f"at least {rule.min:g}" if isinstance(rule, AtLeast) else f"at most {rule.max:g}"
    seeds = rule.retry_with_new_seed
    tried = f"up to {seeds} other seeds, then " if seeds > 1 else "another seed, then " if seeds else ""
    return f"{limit}; if not: {tried}{rule.on_failure}"
