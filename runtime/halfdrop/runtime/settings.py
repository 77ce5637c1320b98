"""Settings: one frozen Struct per process, filled once from the environment, then passed as a value."""

import typing
from collections.abc import Mapping

import msgspec

from halfdrop.contracts.errors import InvalidInput

T = typing.TypeVar("T", bound=msgspec.Struct)


def load_settings(kind: type[T], *, prefix: str, environ: Mapping[str, str]) -> T:
    """Return a `kind` filled from the variables that begin with `prefix`: HALFDROP_EDGE_PORT fills `port`.

    Numbers and booleans are read from their text. Raises InvalidInput, naming the variable, for a name that is no
    field of `kind` (a typing mistake would otherwise be silently ignored) and for a value outside its type's limits.
    """
    given = {name.removeprefix(prefix).lower(): text for name, text in environ.items() if name.startswith(prefix)}
    known = {field.name for field in msgspec.structs.fields(kind)}
    for name in sorted(given.keys() - known):
        allowed = ", ".join(f"{prefix}{field.upper()}" for field in sorted(known))
        raise InvalidInput(f"{prefix}{name.upper()}", got=given[name], allowed=f"one of {allowed}")
    for field in msgspec.structs.fields(kind):
        if field.required and field.name not in given:
            raise InvalidInput(f"{prefix}{field.name.upper()}", got="nothing", allowed="a value; it has no default")
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _name_variable(error, kind, prefix, given) from error


def _name_variable(
    error: msgspec.ValidationError, kind: type[msgspec.Struct], prefix: str, given: Mapping[str, str]
) -> InvalidInput:
    """msgspec ends its message with the path of the member (`$.port`); say it as the variable that was set."""
    reason, _, path = str(error).partition(" - at `$.")
    name = path.rstrip("`")
    hints = typing.get_type_hints(kind)
    allowed = reason if name in hints else f"{reason} ({path})"
    return InvalidInput(f"{prefix}{name.upper()}", got=given.get(name, ""), allowed=allowed)


def describe_settings(kind: type[msgspec.Struct], *, prefix: str) -> list[tuple[str, str, str]]:
    """Return (variable, type, default) of each setting, for `--help` and for the test that docs name them all."""
    rows = []
    for field in msgspec.structs.fields(kind):
        default = "required" if field.required else repr(field.default)
        rows.append((f"{prefix}{field.name.upper()}", _type_name(field.type), default))
    return rows


def _type_name(annotation: object) -> str:
    """Return a type as a reader writes it, without the limits that msgspec hangs on it."""
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
