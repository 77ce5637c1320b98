"""CPU per hit: the edge's front against Debian's nginx, both serving the same 30 KB picture in the same run.

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

from measuring import cpu_seconds, percentile, report, resident_mib

from halfdrop.deploy.ports import choose_port

PICTURE_BYTES = 30_000
CONNECTIONS = 64
ROUND_S = 3
ROUNDS = 5
GOAL_RATIO = 2.8
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

FRONT = """
import asyncio, sys
import uvloop
from halfdrop.edge.access import Door
from halfdrop.edge.front import Front, Shelf
from halfdrop.edge.server import serve

async def nothing(scope, receive, send):
    raise AssertionError("only hits are measured here")

async def main(port, target, file):
    shelf = Shelf(64 * 2**20)
    shelf.put(target, open(file, "rb").read())
    async with serve(Front(shelf, nothing, Door(is_open=True)), host="127.0.0.1", port=port, grace_s=1):
        await asyncio.Event().wait()

uvloop.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
"""
"""The edge's own server, front and shelf without what stands behind them: a hit touches nothing else."""


def main() -> None:
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
        with run_nginx(root) as (nginx_pid, nginx_port), run_front(target, file) as (front_pid, front_port):
            rounds = [
                (
                    measure(nginx_pid, f"http://127.0.0.1:{nginx_port}{target}", root),
                    measure(front_pid, f"http://127.0.0.1:{front_port}{target}", root),
                )
                for _ in range(ROUNDS + 1)
            ][1:]
            front_mib = resident_mib(front_pid)
    ratios = [front["cpu_us"] / nginx["cpu_us"] for nginx, front in rounds]
    report(
        "hits",
        {
            "cpu_ratio_to_nginx": round(percentile(ratios, 0.5), 2),
            "cpu_ratio_min": round(min(ratios), 2),
            "cpu_ratio_max": round(max(ratios), 2),
            **_medians("nginx", [nginx for nginx, _ in rounds]),
            **_medians("edge", [front for _, front in rounds]),
            "front_rss_mb": round(front_mib, 1),
            "picture_bytes": PICTURE_BYTES,
            "connections": CONNECTIONS,
            "rounds": ROUNDS,
            "goal_ratio": GOAL_RATIO,
        },
    )


def _medians(name: str, rounds: list[dict[str, float]]) -> dict[str, float]:
    return {f"{name}_{key}": round(percentile([each[key] for each in rounds], 0.5), 3) for key in rounds[0]}


def measure(pid: int, url: str, root: Path) -> dict[str, float]:
    """Load `url` for a round; return CPU µs per request of `pid`, requests a second, and latencies in ms."""
    script = root / "report.lua"
    script.write_text(
        "done = function(s, l, r) io.write(string.format("
        '\'{"requests": %d, "errors": %d, "p50": %f, "p99": %f}\\n\', s.requests, '
        "s.errors.status + s.errors.read + s.errors.timeout + s.errors.connect, "
        "l:percentile(50) / 1000, l:percentile(99) / 1000)) end\n"
    )
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{ROUND_S}s", "-s", str(script), url]
    before_s = cpu_seconds(pid)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
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
def run_front(target: str, file: Path) -> Iterator[tuple[int, int]]:
    """Run the edge's server and front with `file` on the shelf; yield the process id and the port."""
    port = choose_port()
    process = subprocess.Popen([sys.executable, "-c", FRONT, str(port), target, str(file)])
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
