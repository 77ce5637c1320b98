"""What the client makes of answers that are not the hoped-for one. The network is httpx's own mock transport."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from halfdrop.contracts.errors import HalfdropError, InvalidInput, NotFound, Overloaded, PermanentError, Unavailable
from halfdrop.edge.client import ATTEMPTS_MAX, HalfdropClient
from halfdrop.edge.client_answers import Output, Prediction

Handler = Callable[[httpx.Request], httpx.Response]
PREDICTION: dict[str, Any] = {"id": "a" * 26, "status": "processing", "progress": {"step": 1, "steps": 4}}


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses that the client asked for, none of them taken."""
    taken: list[float] = []
    monkeypatch.setattr("halfdrop.edge.client.time.sleep", taken.append)
    return taken


def open_client(handle: Handler) -> HalfdropClient:
    return HalfdropClient("http://edge.test/", transport=httpx.MockTransport(handle))


def answer_in_turn(*responses: httpx.Response) -> tuple[Handler, list[httpx.Request]]:
    """Return a handler that gives these answers one after another, and the requests it saw."""
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return responses[min(len(seen), len(responses)) - 1]

    return handle, seen


def problem(status: int, *, retry_after: str = "", **members: Any) -> httpx.Response:
    headers = {"content-type": "application/problem+json"} | ({"retry-after": retry_after} if retry_after else {})
    return httpx.Response(status, json={"title": "Oh", "status": status, **members}, headers=headers)


@pytest.mark.parametrize(
    ("response", "kind", "words"),
    [
        (
            problem(422, detail="seed: got '-1'", field="seed", got="-1", allowed="0 to 9"),
            InvalidInput,
            "seed: got '-1'",
        ),
        (problem(404, detail="no order 7"), NotFound, "no order 7"),
        (problem(413, detail="too much", type="urn:halfdrop:body-too-large"), PermanentError, "too much"),
        (problem(500, detail="the edge failed"), PermanentError, "the edge failed"),
        (problem(429, detail="64 wait already", retry_after="3"), Overloaded, "64 wait already"),
        (problem(503, detail="the hub is away"), Unavailable, "the hub is away"),
        (httpx.Response(502, text="<h1>proxy</h1>"), Unavailable, "502 Bad Gateway"),
        (httpx.Response(200, text="<h1>another server</h1>"), PermanentError, "not a Halfdrop edge"),
    ],
    ids=lambda value: str(getattr(value, "status_code", "")),
)
def test_an_answer_becomes_the_error_it_stands_for(
    response: httpx.Response, kind: type[HalfdropError], words: str
) -> None:
    handle, _ = answer_in_turn(response)
    with open_client(handle) as client, pytest.raises(kind, match=words):
        client.get("a" * 26)


def test_invalid_input_keeps_the_edges_own_words() -> None:
    detail = f"prompt: got '{'x' * 80}… (1001 characters)'; allowed: up to 1000 characters"
    got = f"{'x' * 80}… (1001 characters)"
    handle, _ = answer_in_turn(problem(422, detail=detail, field="prompt", got=got, allowed="up to 1000 characters"))
    with open_client(handle) as client, pytest.raises(InvalidInput) as caught:
        client.preview("x" * 1001)
    error = caught.value
    assert (str(error), error.field, error.got, error.allowed) == (detail, "prompt", got, "up to 1000 characters")


def test_a_busy_edge_is_asked_again_after_the_time_it_names(pauses: list[float]) -> None:
    handle, seen = answer_in_turn(problem(429, retry_after="2"), httpx.Response(200, json=PREDICTION))
    with open_client(handle) as client:
        assert client.get("a" * 26).status == "processing"
    assert len(seen) == 2
    assert pauses == [2]


def test_patience_with_an_edge_that_stays_away_is_bounded(pauses: list[float]) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    with open_client(refuse) as client, pytest.raises(Unavailable, match=r"http://edge.test .*connection refused"):
        client.list()
    assert len(pauses) == ATTEMPTS_MAX - 1
    assert sum(pauses) < 2


def test_an_order_is_sent_again_under_the_same_key_and_each_order_has_its_own() -> None:
    handle, seen = answer_in_turn(problem(503, detail="away"), httpx.Response(201, json=PREDICTION))
    with open_client(handle) as client:
        client.order("red dots")
        client.order("red dots")
    keys = [request.headers["idempotency-key"] for request in seen]
    assert keys[0] == keys[1] != keys[2]
    assert len(keys) == 3


def test_an_order_carries_the_pattern_and_the_size() -> None:
    handle, seen = answer_in_turn(httpx.Response(201, json=PREDICTION))
    with open_client(handle) as client:
        client.order("red dots", size_px=1024, seed=7, palette=("#ffffff",))
    sent = msgspec.json.decode(seen[0].content)["input"]
    assert (sent["prompt"], sent["size_px"], sent["seed"], sent["palette"]) == ("red dots", 1024, 7, ["#ffffff"])


def test_watching_goes_on_across_a_broken_stream() -> None:
    done = PREDICTION | {"status": "succeeded"}
    first, second = stream(1, PREDICTION), stream(2, done)
    handle, seen = answer_in_turn(first, second)
    with open_client(handle) as client:
        assert [p.status for p in client.watch("a" * 26)] == ["processing", "succeeded"]
    assert "last-event-id" not in seen[0].headers
    assert seen[1].headers["last-event-id"] == "1"


def test_watching_ends_when_the_stream_keeps_breaking() -> None:
    handle, seen = answer_in_turn(httpx.Response(200, text=""))
    with open_client(handle) as client, pytest.raises(Unavailable, match="early"):
        list(client.watch("a" * 26))
    assert len(seen) == ATTEMPTS_MAX


def test_waiting_has_an_end() -> None:
    handle, _ = answer_in_turn(stream(1, PREDICTION))
    with open_client(handle) as client, pytest.raises(TimeoutError, match="can be watched again"):
        client.wait("a" * 26, timeout_s=0)


def test_a_download_that_breaks_leaves_no_file(tmp_path: Path) -> None:
    def break_off() -> Iterator[bytes]:
        yield b"half of "
        raise httpx.ReadError("connection lost")

    handle, _ = answer_in_turn(httpx.Response(200, content=break_off()))
    finished = Prediction(id="a", status="succeeded", output=Output(master="/files/master.png"))
    with open_client(handle) as client, pytest.raises(Unavailable, match="connection lost"):
        client.download(finished, "master.png", tmp_path / "out.png")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_an_order_does_not_have_is_named(tmp_path: Path) -> None:
    handle, _ = answer_in_turn()
    finished = Prediction(id="a", status="succeeded", output=Output(master="/files/master.png"))
    with open_client(handle) as client, pytest.raises(NotFound, match=r"'plate.tif'; it has: master.png"):
        client.download(finished, "plate.tif", tmp_path / "out.tif")


def test_the_next_page_is_found_by_cursor_or_by_address() -> None:
    address = {"results": [], "next": "http://edge.test/v1/predictions?cursor=abc"}
    bare = {"results": [], "next": "abc"}
    for page in (address, bare):
        handle, _ = answer_in_turn(httpx.Response(200, json=page))
        with open_client(handle) as client:
            assert client.list().next == "abc"


def stream(event_id: int, prediction: dict[str, Any]) -> httpx.Response:
    data = msgspec.json.encode(prediction).decode()
    return httpx.Response(200, text=f"event: status\nid: {event_id}\ndata: {data}\n\n")
