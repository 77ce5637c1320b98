"""Reading server-sent events: lines in, events out. The field rules are those of the HTML standard, 9.2.6."""

from collections.abc import Iterable, Iterator

import msgspec


class ServerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event. `id` is the newest id the stream has named, "" before the first."""

    kind: str = "message"
    data: str = ""
    id: str = ""


def read_events(lines: Iterable[str]) -> Iterator[ServerEvent]:
    """Yield the events in `lines` (without line ends). Comments are skipped; an event cut short is dropped."""
    kind, data, last_id = "", list[str](), ""
    for line in lines:
        if not line:
            if data:
                yield ServerEvent(kind=kind or "message", data="\n".join(data), id=last_id)
            kind, data = "", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            kind = value
        elif name == "data":
            data.append(value)
        elif name == "id" and "\0" not in value:
            last_id = value
