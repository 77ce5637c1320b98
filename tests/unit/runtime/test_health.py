"""Probes: a loop that turns, one that hangs, one that is not ready yet; and URLs that are told without passwords."""

import asyncio
import time

import httpx
import pytest

from halfdrop.contracts.errors import PermanentError
from halfdrop.deploy.ports import choose_port
from halfdrop.runtime import health
from halfdrop.runtime.broker import without_password
from halfdrop.runtime.health import serve_health


async def ask(port: int, path: str) -> tuple[int, str]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        answer = await client.get(path)
    return answer.status_code, answer.text.strip()


async def test_a_process_lives_before_it_is_ready() -> None:
    missing = "model house is still being loaded"
    loop = asyncio.get_running_loop()
    free = {"host": "127.0.0.1", "port": 0, "setting": "X"}
    with serve_health(**free, why_not_ready=lambda: missing, loop=loop) as none:
        assert none == 0
    with serve_health(
        host="127.0.0.1", port=choose_port(), setting="X", why_not_ready=lambda: missing, loop=loop
    ) as port:
        assert await ask(port, "/healthz") == (200, "ok")
        assert await ask(port, "/readyz") == (503, missing)
        missing = ""
        assert await ask(port, "/readyz?verbose") == (200, "ready")
        assert await ask(port, "/metrics") == (404, "got /metrics; allowed: /healthz, /readyz")
        with (
            pytest.raises(PermanentError, match="choose another X"),
            serve_health(host="127.0.0.1", port=port, setting="X", why_not_ready=lambda: "", loop=loop),
        ):
            pass


async def test_a_loop_that_hangs_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "TURN_S", 0.05)
    loop = asyncio.get_running_loop()
    with serve_health(host="127.0.0.1", port=choose_port(), setting="X", why_not_ready=lambda: "", loop=loop) as port:
        answers: list[int] = []
        asking = loop.run_in_executor(
            None, lambda: answers.append(httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code)
        )
        deadline_s = time.monotonic() + 5
        while not answers and time.monotonic() < deadline_s:  # holds the loop, as a bug would
            time.sleep(0.01)  # noqa: ASYNC251  that is the point
        await asking
    assert answers == [503]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
        ("tls://hub:s3cret@nats:4222", "tls://nats:4222"),
        ("tls://a:b@one:1,tls://c:d@two:2", "tls://one:1,tls://two:2"),
        ("hub:s@cret@nats", "nats"),
        ("", ""),
    ],
)
def test_a_url_is_told_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown
