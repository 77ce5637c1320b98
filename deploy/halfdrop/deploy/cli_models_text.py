"""Models as text and as JSON. What a manifest says was written by whoever made the bundle: it is shown, not trusted."""

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

import msgspec
import typer

from halfdrop.deploy.cli_options import printable
from halfdrop.models.bundle import Bundle, Manifest

WIDTH_CHARS = 100
_LABEL_CHARS = 15

KINDS = {
    "house-preview": "draws plates from a prompt, at an edge and on the hub",
    "house-render": "refines plates for masters, on the hub",
    "checkpoint": "a diffusers checkpoint, on the hub",
    "checkpoint-edge": "a checkpoint in INT8, at an edge",
}

_SHOWN_APART = frozenset({"name", "version", "licence", "training_data", "files", "kind"})


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A model in a list."""

    name: str
    version: str
    digest: str
    size_bytes: int
    kind: str
    licence: str
    is_shipped: bool
    aliases: tuple[str, ...]
    directory: str


def summaries(bundles: Sequence[Bundle], aliases: Mapping[str, str]) -> list[Summary]:
    """Return what a list says of each bundle. aliases: digests by alias."""
    return [
        Summary(
            name=bundle.name,
            version=bundle.version,
            digest=bundle.digest,
            size_bytes=bundle.size_bytes,
            kind=bundle.manifest.kind,
            licence=bundle.manifest.licence,
            is_shipped=bundle.is_shipped,
            aliases=tuple(sorted(alias for alias, digest in aliases.items() if digest == bundle.digest)),
            directory=str(bundle.directory),
        )
        for bundle in bundles
    ]


def list_rows(found: Sequence[Summary]) -> list[str]:
    """Return a line for each model, in columns."""
    rows = [
        (
            f"{model.name}-{model.version}",
            model.digest[:12],
            f"{model.size_bytes / 1e6:>8,.1f} MB",
            model.kind,
            printable(model.licence),
            "shipped" if model.is_shipped else "imported",
            " ".join(model.aliases),
        )
        for model in found
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def describe_bundle(bundle: Bundle) -> str:
    """Return a line on one bundle, wherever it lies."""
    size = f"{bundle.size_bytes / 1e6:,.1f} MB"
    about = (f"{bundle.name}-{bundle.version}", bundle.digest[:12], size, bundle.manifest.kind, bundle.manifest.licence)
    return printable("  ".join(about))


def show_rows(summary: Summary, manifest: Manifest, facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield a manifest for people: what it is and whose, then each thing that was measured, then the files."""
    yield f"{summary.name}-{summary.version}"
    yield from _labelled("digest", summary.digest)
    yield from _labelled("kind", f"{summary.kind}: {KINDS[summary.kind]}")
    yield from _labelled("from", "shipped with this installation" if summary.is_shipped else summary.directory)
    yield from _labelled("aliases", ", ".join(summary.aliases))
    yield from _labelled("licence", summary.licence)
    yield from _labelled("training data", manifest.training_data)
    told = {name: value for name, value in facts.items() if name not in _SHOWN_APART}
    for name, value in told.items():
        if not isinstance(value, dict):
            yield from _labelled(name, _format(value))
    for name, value in told.items():
        if isinstance(value, dict) and value:
            yield ""
            yield from _table(name, value)
    yield ""
    yield f"files: {summary.size_bytes / 1e6:,.1f} MB"
    for path, file in sorted(manifest.files.items()):
        yield f"  {file.sha256[:12]}  {file.bytes:>14,} B  {path}"


def print_json(value: object) -> None:
    """Print JSON for a program to read."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def _labelled(label: str, text: str) -> Iterator[str]:
    """Yield a label and its text, folded beside it; nothing if there is nothing to say."""
    for number, line in enumerate(wrap(printable(text), WIDTH_CHARS - _LABEL_CHARS)):
        yield f"{printable(label) if number == 0 else '':<{_LABEL_CHARS}}{line}"


def _table(name: str, members: Mapping[str, Any]) -> Iterator[str]:
    """Yield a section: nested members under their whole names, values in one column."""
    rows = [(printable(label), printable(_format(value))) for label, value in _flatten(members)]
    width = max((len(label) for label, _ in rows), default=0)
    yield printable(name)
    for label, value in rows:
        first, *others = wrap(value, max(WIDTH_CHARS - width - 4, 20)) or [""]
        yield f"  {label:<{width}}  {first}".rstrip()
        yield from (f"  {'':<{width}}  {line}" for line in others)


def _flatten(members: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in members.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{before}{name}.")
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            for number, item in enumerate(value, 1):
                yield from _flatten(item, f"{before}{name}.{number}.")
        else:
            yield f"{before}{name}", value


def _format(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float) and value.is_integer():
        return f"{value:.0f}"
    if isinstance(value, list):
        return ", ".join(_format(item) for item in value)
    return str(value)
