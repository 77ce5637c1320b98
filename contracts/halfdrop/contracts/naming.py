"""Which member of a value is wrong: msgspec's words turned into the field, what was got, and what is allowed."""

import re
import typing
from typing import Any

import msgspec
from msgspec.inspect import StructType, type_info

from halfdrop.contracts.errors import InvalidInput


def name_member(message: str, raw: object, kind: type[msgspec.Struct]) -> InvalidInput:
    """Return the refusal of `raw`, which is no `kind`; message: what msgspec said.

    It says what it expected and ends with the path (`$.repeat.units`); what was got there is added.
    """
    reason, _, path = message.partition(" - at `$")
    steps = re.findall(r"[^.\[\]`]+", path)
    if missing := re.match(r"Object missing required field `(\w+)`", reason):
        name = missing[1]
        return InvalidInput(".".join([*steps, name]), got="nothing", allowed="a value; it is required")
    if unknown := re.match(r"Object contains unknown field `(.*)`", reason, re.DOTALL):
        members = _member_names(kind, steps)
        field = ".".join([*steps, unknown[1][:80]])
        return InvalidInput(field, got="an unknown member", allowed=f"only {', '.join(members)}")
    return InvalidInput(_join(steps) or "body", got=_look_up(raw, steps), allowed=_say(reason, kind, steps))


def _join(steps: list[str]) -> str:
    return "".join(f"[{s}]" if s.isdigit() or s == "..." else f".{s}" for s in steps).lstrip(".")


def _look_up(raw: object, steps: list[str]) -> object:
    value: Any = raw
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit():
            value = value[int(step)]
        else:
            return value
    return value


def _say(reason: str, kind: type[msgspec.Struct], steps: list[str]) -> str:
    expected = re.match(r"Expected `([^`]+)`", reason)
    if reason.startswith("Invalid enum value"):
        return " or ".join(map(repr, _literals(kind, steps)))
    if not expected:
        return reason
    words = {"str": "text", "int": "a whole number", "float": "a number", "array": "a list", "object": "an object"}
    names = expected[1].split(" | ")
    return " or ".join("nothing" if n == "null" else words.get(n, n) for n in names) + _limit(reason)


def _limit(reason: str) -> str:
    limit = re.match(r"Expected `[^`]+` ((?:[<>]=?|of length|matching regex) .*)", reason)
    return f" {limit[1]}" if limit else ""


def _member_names(kind: type[msgspec.Struct], steps: list[str]) -> list[str]:
    found = _struct_at(kind, steps)
    return [field.encode_name for field in msgspec.structs.fields(found)] if found else []


def _literals(kind: type[msgspec.Struct], steps: list[str]) -> tuple[object, ...]:
    while steps and steps[-1].isdigit():  # an item of a list: its member says what items may be
        steps = steps[:-1]
    owner = _struct_at(kind, steps[:-1])
    if owner is None or not steps:
        return ()
    names = {field.encode_name: field.name for field in msgspec.structs.fields(owner)}
    return _flatten(typing.get_type_hints(owner).get(names.get(steps[-1], "")))


def _flatten(annotation: object) -> tuple[object, ...]:
    """Return the values of the Literal within `annotation`: "a" and "b" of tuple[Literal["a", "b"], ...] | None."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return arguments
    return tuple(value for argument in arguments for value in _flatten(argument))


def _struct_at(kind: type[msgspec.Struct], steps: list[str]) -> type[msgspec.Struct] | None:
    """Return the Struct that the members named by `steps` lead to."""
    info: Any = type_info(kind)
    for step in steps:
        fields = {f.encode_name: f.type for f in info.fields} if isinstance(info, StructType) else {}
        info = fields.get(step)
        options = getattr(info, "types", (info,))
        info = next((o for o in options if isinstance(o, StructType)), info)
    return info.cls if isinstance(info, StructType) else None
