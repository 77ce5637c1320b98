"""Server-sent events, line by line."""

from halfdrop.edge.event_stream import ServerEvent, read_events


def test_an_event_carries_its_kind_its_data_and_the_newest_id() -> None:
    lines = ["event: status", "id: 7", 'data: {"a":1}', "", "data: plain", ""]
    assert list(read_events(lines)) == [
        ServerEvent(kind="status", data='{"a":1}', id="7"),
        ServerEvent(kind="message", data="plain", id="7"),
    ]


def test_lines_of_data_are_joined_and_only_one_space_is_taken_off() -> None:
    assert list(read_events(["data:  indented", "data:tight", ""])) == [ServerEvent(data=" indented\ntight")]


def test_comments_keep_a_connection_alive_and_are_no_events() -> None:
    assert list(read_events([": ping", "", ":", "", "retry: 10", ""])) == []


def test_an_event_cut_short_is_dropped() -> None:
    assert list(read_events(["data: whole", "", "data: half"])) == [ServerEvent(data="whole")]
