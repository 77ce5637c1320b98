"""CPU per hit: the edge's front against Debian's nginx, both serving the same 30 KB picture in the same run.

Twice: the whole picture, and 304 for a client that has it. A third server gives the picture out by a plain Litestar
route, to see that the front's tail is no longer than the framework's.

Load is wrk with keep-alive connections; CPU is what the kernel booked to the serving process (/proc/PID/stat), so the
load generator does not count. The two are measured in turns, several rounds of each, because a shared machine drifts;
the ratio is taken in each round. nginx: one worker, sendfile, open_file_cache, no access log, as an operator would
set it up for this. Both serve over loopback.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from measuring import cpu_seconds, percentile, report, resident_mib

from halfdrop.deploy.ports import choose_port

PICTURE_BYTES = 30_000
CONNECTIONS = 64
ROUND_S = 2
ROUNDS = 5
GOAL_RATIO, GOAL_UNCHANGED_RATIO = 2.5, 3.0
READY_LIMIT_S = 20.0

NGINX = """worker_processes 1;
daemon off;
pid {root}/nginx.pid;
error_log {root}/nginx.err;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    types {{ image/webp webp; }}
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    open_file_cache max=100;
    client_body_temp_path {root}/body;
    proxy_temp_path {root}/proxy;
    fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi;
    scgi_temp_path {root}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {root}/www;
        add_header Cache-Control "public, max-age=31536000, immutable";
    }}
}}
"""

SERVER = """
import asyncio, logging, sys
import structlog
import uvloop
from litestar import Litestar, Response, get
from halfdrop.edge.access import Door
from halfdrop.edge.front import Front
from halfdrop.edge.shelf import Shelf
from halfdrop.edge.server import serve

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))  # an edge's usual level

async def main(kind, port, target, file):
    picture = open(file, "rb").read()
    @get(target)
    async def plain() -> Response[bytes]:
        return Response(picture, media_type="image/webp")
    shelf = Shelf(64 * 2**20)
    if kind == "front":
        shelf.put(target, picture)
    app = Front(shelf, Litestar([plain], openapi_config=None, logging_config=None), Door(is_open=True))
    async with serve(app, host="127.0.0.1", port=port, grace_s=1):
        await asyncio.Event().wait()

uvloop.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]))
"""
"""The edge's own server and front; the picture lies on its shelf, or a plain route of the framework has it."""

Figures = dict[str, float]


def main() -> None:
    report("hits", measure_hits())


def measure_hits() -> dict[str, object]:
    """Return the figures: medians over the rounds, and ratios taken within each round."""
    for program in ("nginx", "wrk"):
        if shutil.which(program) is None:
            sys.exit(f"bench/hits.py needs {program}: apt-get install -y nginx-light wrk")
    with tempfile.TemporaryDirectory(prefix="halfdrop-bench-") as folder:
        root = Path(folder)
        root.chmod(0o755)  # nginx's worker is another user
        target = f"/p/{'ab' * 16}.webp"
        file = root / f"www{target}"
        file.parent.mkdir(parents=True)
        file.write_bytes(os.urandom(PICTURE_BYTES))
        with (
            run_nginx(root) as nginx,
            run_server("front", target, file) as front,
            run_server("litestar", target, file) as litestar,
        ):
            rounds = [
                measure_round(target, root, nginx=nginx, front=front, litestar=litestar) for _ in range(ROUNDS + 1)
            ]
            front_mib = resident_mib(front[0])
    rounds = rounds[1:]  # the first one warms
    hits = [each["edge"]["cpu_us"] / each["nginx"]["cpu_us"] for each in rounds]
    unchanged = [each["edge_unchanged"]["cpu_us"] / each["nginx_unchanged"]["cpu_us"] for each in rounds]
    tails = [each["edge"]["latency_ms_p99"] / each["litestar"]["latency_ms_p99"] for each in rounds]
    return {
        "hit_cpu_ratio_to_nginx": _median(hits),
        "hit_cpu_ratio_min": round(min(hits), 2),
        "hit_cpu_ratio_max": round(max(hits), 2),
        "not_modified_cpu_ratio_to_nginx": _median(unchanged),
        "not_modified_cpu_ratio_min": round(min(unchanged), 2),
        "not_modified_cpu_ratio_max": round(max(unchanged), 2),
        "hit_p99_ratio_to_litestar": _median(tails),
        **{
            f"{name}_{key}": round(percentile([each[name][key] for each in rounds], 0.5), 3)
            for name in rounds[0]
            for key in rounds[0][name]
        },
        "front_rss_mb": round(front_mib, 1),
        "picture_bytes": PICTURE_BYTES,
        "connections": CONNECTIONS,
        "rounds": ROUNDS,
        "goal_hit_ratio": GOAL_RATIO,
        "goal_not_modified_ratio": GOAL_UNCHANGED_RATIO,
    }


def _median(ratios: list[float]) -> float:
    return round(percentile(ratios, 0.5), 2)


def measure_round(
    target: str, root: Path, *, nginx: tuple[int, int], front: tuple[int, int], litestar: tuple[int, int]
) -> dict[str, Figures]:
    """Load each server in turn; return its figures by name."""
    return {
        "nginx": measure(*nginx, target, root),
        "edge": measure(*front, target, root),
        "nginx_unchanged": measure(*nginx, target, root, is_unchanged=True),
        "edge_unchanged": measure(*front, target, root, is_unchanged=True),
        "litestar": measure(*litestar, target, root),
    }


def measure(pid: int, port: int, target: str, root: Path, *, is_unchanged: bool = False) -> Figures:
    """Load a server for a round; return CPU µs per request of `pid`, requests a second, and latencies in ms."""
    url = f"http://127.0.0.1:{port}{target}"
    headers: dict[str, str] = {"If-None-Match": httpx.get(url).headers["etag"]} if is_unchanged else {}
    answer, wanted = httpx.get(url, headers=headers), 304 if is_unchanged else 200
    if answer.status_code != wanted or len(answer.content) != (0 if is_unchanged else PICTURE_BYTES):
        sys.exit(f"bench/hits.py: {url} answered {answer.status_code} with {len(answer.content)} bytes, not {wanted}")
    script = root / "report.lua"
    script.write_text(
        "done = function(s, l, r) io.write(string.format("
        '\'{"requests": %d, "errors": %d, "p50": %f, "p99": %f}\\n\', s.requests, '
        "s.errors.status + s.errors.read + s.errors.timeout + s.errors.connect, "
        "l:percentile(50) / 1000, l:percentile(99) / 1000)) end\n"
    )
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{ROUND_S}s", "-s", str(script)]
    command += [f"-H{name}: {value}" for name, value in headers.items()]
    before_s = cpu_seconds(pid)
    done = subprocess.run([*command, url], check=True, capture_output=True, text=True)
    used_s = cpu_seconds(pid) - before_s
    found = json.loads(done.stdout.strip().splitlines()[-1])
    if found["errors"] or not found["requests"]:
        sys.exit(f"bench/hits.py: {url} answered {found['requests']} requests with {found['errors']} errors")
    return {
        "cpu_us": used_s / found["requests"] * 1e6,
        "requests_per_s": found["requests"] / ROUND_S,
        "latency_ms_p50": found["p50"],
        "latency_ms_p99": found["p99"],
    }


@contextmanager
def run_nginx(root: Path) -> Iterator[tuple[int, int]]:
    """Run nginx on the files below root/www; yield its worker's process id and its port."""
    port = choose_port()
    config = root / "nginx.conf"
    config.write_text(NGINX.format(root=root, port=port))
    process = subprocess.Popen(["nginx", "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        wait_until_open(port)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield int(children[0]), port
    finally:
        process.terminate()
        process.wait()


@contextmanager
def run_server(kind: str, target: str, file: Path) -> Iterator[tuple[int, int]]:
    """Run SERVER as `kind`, "front" or "litestar", with `file` at `target`; yield the process id and the port."""
    port = choose_port()
    process = subprocess.Popen([sys.executable, "-c", SERVER, kind, str(port), target, str(file)])
    try:
        wait_until_open(port)
        yield process.pid, port
    finally:
        process.kill()
        process.wait()


def wait_until_open(port: int) -> None:
    """Return once something listens. Raises TimeoutError if nothing does."""
    asyncio.run(_wait_until_open(port))


async def _wait_until_open(port: int) -> None:
    deadline_s = time.monotonic() + READY_LIMIT_S
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"nothing listens on port {port}") from None
            await asyncio.sleep(0.02)
            continue
        writer.close()
        return


if __name__ == "__main__":
    main()
