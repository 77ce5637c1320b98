"""`halfdrop demand` and `halfdrop events`, with a server that answers as Prometheus documents it, and a real NATS."""

import asyncio
import contextlib
import io
import json
import math
import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import pytest
import structlog

from halfdrop.deploy import cli
from halfdrop.deploy.servers import NatsServer

Command = Callable[..., Awaitable[tuple[int, str, str]]]

POINTS_MAX = 11_000


class Prometheus(BaseHTTPRequestHandler):
    """Answers query_range as https://prometheus.io/docs/prometheus/latest/querying/api/ has it, of series it makes up.

    busy: two series of region and pod, of which the last hour is unknown, and one value that is no number.
    """

    asked: list[dict[str, str]]
    failures: list[int]

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        asked = {name: values[0] for name, values in form.items()}
        self.asked.append(asked | {"path": self.path, "authorization": self.headers.get("authorization", "")})
        if self.failures:
            self._send(self.failures.pop(), None)
        elif asked["query"] == "busy":
            self._send_matrix(float(asked["start"]), float(asked["end"]), float(asked["step"]))
        elif asked["query"] == "scalar":
            self._send(200, {"status": "success", "data": {"resultType": "scalar", "result": [1.5, "1"]}})
        else:
            error = {"status": "error", "errorType": "bad_data", "error": "1:4: parse error: unexpected end of input"}
            self._send(400, error)

    def _send_matrix(self, start: float, end: float, step: float) -> None:
        times = [start + step * place for place in range(int((end - start) / step) + 1)]
        if len(times) > POINTS_MAX:
            detail = "exceeded maximum resolution of 11,000 points per timeseries."
            self._send(400, {"status": "error", "errorType": "bad_data", "error": detail})
            return
        result = [
            {
                "metric": {"zone": zone, "pod": pod},
                "values": [[at, self._value(at)] for at in times if at < time.time() - 3_600],
            }
            for zone, pod in (("eu", "a"), ("eu", "b"), ("us", "a"))
        ]
        data = {"resultType": "matrix", "result": result}
        self._send(200, {"status": "success", "data": data, "warnings": ["made up"], "infos": []})

    @staticmethod
    def _value(at: float) -> str:
        return "NaN" if at % 3_600 == 0 else repr(2.0 + math.sin(at))

    def _send(self, status: int, body: Any) -> None:
        data = b"<html>Bad Gateway</html>" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json" if body else "text/html")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def prometheus() -> Iterator[ThreadingHTTPServer]:
    Prometheus.asked, Prometheus.failures = [], []
    with ThreadingHTTPServer(("127.0.0.1", 0), Prometheus) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def halfdrop(hub_nats: NatsServer, objects_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """`status, output, errors = await halfdrop("events", "list")`: against the hub's NATS and the test's objects.

    In a thread of this process: a dozen starts of Python with pandas would take a minute.
    """
    monkeypatch.setenv("HALFDROP_HUB_NATS_URL", hub_nats.url)
    monkeypatch.setenv("HALFDROP_FORECASTER_OBJECTS_URL", objects_url)
    monkeypatch.setenv("HALFDROP_PROMETHEUS_TOKEN", "t0ken")

    def run(arguments: tuple[str, ...]) -> tuple[int, str, str]:
        output, errors = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "argv", ["halfdrop", *arguments])
        status: object = 0
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            try:
                cli.main()
            except SystemExit as ended:
                status = ended.code or 0
        assert isinstance(status, int)
        return status, output.getvalue(), errors.getvalue()

    async def command(*arguments: str) -> tuple[int, str, str]:
        return await asyncio.to_thread(run, arguments)

    yield command
    structlog.reset_defaults()


async def test_demand_comes_from_prometheus_in_days_and_is_shown_and_exported(
    halfdrop: Command, prometheus: ThreadingHTTPServer, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{prometheus.server_address[1]}/"
    Prometheus.failures = [502]
    arguments = ("demand", "import", "--prometheus", url, "--label", "region=zone", "--scale", "2", "--from", "-2.5d")
    status, output, errors = await halfdrop(*arguments, "--query", "busy", "--json")
    assert status == 0, errors
    done = json.loads(output)
    assert (done["series"], done["repeated"]) == (2, 0)
    assert 2 * (2.4 * 1440 - 70) < done["rows"] < 2 * 2.5 * 1440, "the last hour and each full hour are gaps"
    assert len(Prometheus.asked) == 4, "one for each day, and one again after the 502"
    assert {each["authorization"] for each in Prometheus.asked} == {"Bearer t0ken"}
    assert {each["path"] for each in Prometheus.asked} == {"/api/v1/query_range"}

    status, output, _ = await halfdrop("demand", "show")
    header, eu, us = output.splitlines()
    assert status == 0
    assert eu.split()[:4] == ["eu", "standard", "house", "finish"]
    assert us.split()[:2] == ["us", "standard"]
    asked_column = header.split().index("asked") - 1  # "GPU-h asked" are two words
    assert float(eu.split()[asked_column]) == pytest.approx(2 * float(us.split()[asked_column]), rel=0.01)
    assert re.search(r"[▁-█]{30,}·+$", eu), "a gap is seen as one"

    path = tmp_path / "out.csv"
    status, _, errors = await halfdrop("demand", "export", "--from", "-3d", "--region", "us", "-o", str(path))
    assert status == 0, errors
    lines = path.read_text().splitlines()
    assert len(lines) - 1 == done["rows"] // 2
    assert lines[0].startswith("minute,region,class,model,tier,requests,gpu_s_offered")


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("--query", "rate("), 2, "parse error: unexpected end of input"),
        (("--query", "scalar"), 2, "scalar.*matrix"),
        (("--query", "busy", "--from", "+1d"), 2, "--to"),
        (("--query", "busy", "--label", "zone"), 2, "region=LABEL"),
        (("--query", "busy", "--scale", "-1"), 2, "above 0"),
        (("--query", "busy", "--from", "-30m"), 2, "no row that can be used"),
        ((), 2, "--query"),
    ],
)
async def test_what_prometheus_cannot_answer_is_told_in_one_line(
    halfdrop: Command, prometheus: ThreadingHTTPServer, arguments: tuple[str, ...], status: int, told: str
) -> None:
    url = f"http://127.0.0.1:{prometheus.server_address[1]}"
    ended, _, errors = await halfdrop("demand", "import", "--prometheus", url, *arguments)
    assert (ended, errors.count("\n")) == (status, 1), errors
    assert re.search(told, errors)


async def test_events_are_entered_learnt_from_and_removed(halfdrop: Command, tmp_path: Path) -> None:
    now = int(time.time() // 60 * 60)
    began = now - 7 * 86_400 - 6 * 3_600
    rows = [(at, 12.0 if began <= at < began + 7_200 else 4.0) for at in range(now - 21 * 86_400, now, 60)]
    path = tmp_path / "past.csv"
    path.write_text("t,gpus\n" + "".join(f"{at},{gpus}\n" for at, gpus in rows))
    assert (await halfdrop("demand", "import", str(path)))[0] == 0

    last = ("events", "add", "Last drop", "--kind", "drop", "--start", str(began), "--end", str(began + 7_200))
    status, output, errors = await halfdrop(*last, "--uplift", "2", "--id", "last-drop")
    assert status == 0, errors
    assert output.startswith("last-drop ")
    status, output, errors = await halfdrop(
        "events", "add", "Next drop", "--kind", "drop", "--start", "+1d", "--end", "+26h"
    )
    assert status == 0, errors
    assert "drop: ×3.00, the median of 1 past event (×3.00 to ×3.00)" in output
    status, output, _ = await halfdrop("events", "list", "--json")
    [event] = json.loads(output)
    assert (status, event["name"], event["uplift"]) == (0, "Next drop", 3.0)
    assert len((await halfdrop("events", "list", "--past"))[1].splitlines()) == 2
    assert (await halfdrop("events", "remove", event["id"]))[0] == 0
    status, _, errors = await halfdrop("events", "remove", event["id"])
    assert (status, errors.count("\n")) == (1, 1)
    assert "events list" in errors


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--start", "now", "--end", "+366d", "--uplift", "2"), "366 days.*31 days"),
        (("--start", "now", "--end", "-1h", "--uplift", "2"), "after the start"),
        (("--start", "now", "--end", "+1h", "--uplift", "5000"), "0.01 to 1000"),
        (("--start", "now", "--end", "+1h"), "no past event of the kind campaign"),
        (("--start", "soon", "--end", "+1h"), "ISO 8601"),
    ],
)
async def test_what_cannot_be_an_event_is_told_in_one_line(
    halfdrop: Command, arguments: tuple[str, ...], told: str
) -> None:
    status, _, errors = await halfdrop("events", "add", "Sale", *arguments)
    assert (status, errors.count("\n")) == (2, 1), errors
    assert re.search(told, errors)
