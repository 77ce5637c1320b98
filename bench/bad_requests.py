"""What nobody should send: thousands of random bad requests to a real edge, none of which may be its fault.

Random methods, paths and headers, wrong JSON, absurd numbers, bad encodings, broken HTTP, bodies that are cut short,
huge or slow, connections that are cut in the middle; from a seed that is printed, so that a run can be repeated. Goals:
no 5xx, an answer to whoever waits for one, memory that does not grow, and an edge that still draws at the end.
"""

import argparse
import asyncio
import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from measuring import report, resident_mib

from halfdrop.contracts.subjects import HUB_DOMAIN, edge_domain
from halfdrop.deploy.ports import LOOPBACK, choose_port
from halfdrop.deploy.processes import EDGE_NAME, make_edge
from halfdrop.deploy.servers import run_nats_server, run_valkey

CONNECTIONS = 24
WARM_UP = 300
BODY_S = 2.0
"""The edge's limit for a body here: slow ones are ended after this."""

ANSWER_LIMIT_S = 60.0
"""Who waits for an answer has it by now, on a machine that is busy with other things too."""

READ_MAX_BYTES = 2**20
GIANT_BYTES = 10 * 2**20
KEY = "0" * 32
ORDER = "0" * 26

PATHS = [
    "/", "/healthz", "/schema/openapi.json", "/v1/previews", "/v1/predictions", f"/v1/predictions/{ORDER}",
    f"/v1/predictions/{ORDER}/cancel", f"/v1/predictions/{ORDER}/stream", f"/v1/predictions/{ORDER}/files/master.png",
    f"/p/{KEY}.webp", f"/p/{KEY}.webp?px=512", "/v1/models/halfdrop/house", "/v1/models/halfdrop/house/predictions",
    "/v1/models/halfdrop/house/versions", "/v1/models/halfdrop/house/versions/house", "/studio/studio.js",
]  # fmt: skip
METHODS = ["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW", "get", "G\x7fT", ""]
ODD = [
    0, -1, 1, 2**31, 2**53 + 1, 2**64, -(2**63), 10**400, 1e308, -1e308, 0.1, True, None, "", " ", "\0",
    "house", "a" * 70_000,
    "\ud800", "\u202e\u0000", "😀" * 300, "#ffffff", "../../etc/passwd", "' OR 1=1", "${jndi:ldap://x}",
    [], {}, [[]], [None],
]  # fmt: skip
ODD_HEADERS = [
    "Prefer", "Cancel-After", "Idempotency-Key", "Accept", "Content-Type", "Content-Encoding", "If-None-Match", "Host",
    "Last-Event-ID", "Authorization", "Cookie", "Range", "Expect", "X-Forwarded-For", "Upgrade", "Transfer-Encoding",
    "Content-Length", "Connection", "Accept-Encoding", "TE", "Origin",
]  # fmt: skip
ODD_VALUES = [
    "", "wait", "wait=1", "wait=99999999999999999999", "5s", "1e9", "9" * 300, "chunked", "gzip", "100-continue", "h2c",
    "websocket", "bytes=0-99999999999", "Bearer", "Bearer \xff", "halfdrop_key=\x01", "application/json; charset=utf-7",
    "*/*;q=nan", '"', "\xff\xfe", "a" * 9_000, "-1", "W/\"", "application/json",
]  # fmt: skip

Chance = random.Random


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=None, help="of an earlier run, to repeat it")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    report("bad_requests", {"seed": seed, **asyncio.run(measure(arguments.requests, seed))})


async def measure(requests: int, seed: int) -> dict[str, object]:
    """Send them all to an edge of its own, and return what came of it."""
    os.environ["HALFDROP_EDGE_BODY_S"] = str(BODY_S)
    with tempfile.TemporaryDirectory(prefix="halfdrop-bench-") as folder:
        root, port = Path(folder), choose_port()
        async with (
            run_nats_server(name="hub", data_dir=root / "hub", domain=HUB_DOMAIN, leaf_port=0) as hub,
            run_nats_server(
                name="edge", data_dir=root / "nats", domain=edge_domain(EDGE_NAME), leaf_remote=hub.leaf_url
            ) as nats,
            run_valkey(data_dir=root / "valkey") as valkey,
        ):
            edge = make_edge(
                port=port, nats_url=nats.url, redis_url=valkey.url, objects_url=(root / "objects").as_uri(),
                data_dir=root / "edge", log_path=root / "edge.log",
            )  # fmt: skip
            await edge.start()
            try:
                await send_all(port, WARM_UP, Chance(seed + 1))
                before_mib = resident_mib(edge.process.pid)
                began_s = time.monotonic()
                counts, errors = await send_all(port, requests, Chance(seed))
                took_s = time.monotonic() - began_s
                still = await exchange(port, write_post("/v1/previews", b'{"prompt": "red dots"}'))
                after_mib = resident_mib(edge.process.pid)
            finally:
                await edge.stop()
            logged = (root / "edge.log").read_text(errors="replace").splitlines()
    classes = {f"answers_{digit}xx": counts[digit] for digit in "12345"}
    return {
        "requests": requests,
        **classes,
        "without_answer": counts["closed"],
        "hung": counts["hung"],
        "server_errors": counts["5"],
        "server_error_examples": errors[:5],
        "unexpected_errors_logged": sum('"unexpected_error"' in line or "Traceback" in line for line in logged),
        "logged_examples": [line[:2_000] for line in logged if '"unexpected_error"' in line or "Traceback" in line][:2],
        "still_answers": still[:12] == b"HTTP/1.1 200",
        "rss_before_mb": round(before_mib, 1),
        "rss_after_mb": round(after_mib, 1),
        "seconds": round(took_s, 1),
    }


async def send_all(port: int, requests: int, chance: Chance) -> tuple[Counter[str], list[str]]:
    """Send that many over CONNECTIONS connections at once; return counts by status class, and requests that got 5xx."""
    counts: Counter[str] = Counter()
    errors: list[str] = []
    seeds = iter([chance.randrange(2**63) for _ in range(requests)])

    async def send_some() -> None:
        for seed in seeds:
            made = Chance(seed)
            kind = made.choices(list(KINDS), weights=list(KINDS.values()))[0]
            raw = kind(made)
            try:
                async with asyncio.timeout(ANSWER_LIMIT_S):
                    answer = await exchange(port, raw, made if kind in (cut, slow) else None)
            except TimeoutError:
                counts["hung"] += 1
                errors.append(f"hung: {kind.__name__} {raw[:200]!r}")
                continue
            status = answer[9:10].decode() if answer.startswith(b"HTTP/1.1 ") else ""
            counts[status if status in "12345" and status else "closed"] += 1
            if status == "5":
                errors.append(f"{kind.__name__} {raw[:300]!r} -> {answer[:300]!r}")

    await asyncio.gather(*(send_some() for _ in range(CONNECTIONS)))
    return counts, errors


async def exchange(port: int, raw: bytes, break_off: Chance | None = None) -> bytes:
    """Send `raw` on a connection of its own and return what came back; with `break_off` only a part, slowly or not."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    answer = b""
    try:
        if break_off is None:
            writer.write(raw)
        else:
            await send_part(writer, raw, break_off)
        while len(answer) < READ_MAX_BYTES and (data := await reader.read(65536)):
            answer += data
    except OSError:
        pass  # closed by the other side; what had come counts
    finally:
        writer.transport.abort()
    return answer


async def send_part(writer: asyncio.StreamWriter, raw: bytes, chance: Chance) -> None:
    """Send the beginning of `raw`: then hang up, or wait for what the edge does about it."""
    end = chance.randrange(len(raw))
    if chance.random() < 0.5:
        writer.write(raw[:end])
    else:
        for at in range(0, end, max(1, end // 5)):
            writer.write(raw[at : min(end, at + max(1, end // 5))])
            await writer.drain()
            await asyncio.sleep(chance.random() * 0.2)
    await writer.drain()
    if chance.random() < 0.5:
        writer.transport.abort()
    else:
        writer.write_eof()


def write_post(path: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    """Return a POST of JSON as bytes, of its real length or another."""
    head = [f"POST {path} HTTP/1.1", f"Host: {LOOPBACK}", "Connection: close", "Content-Type: application/json"]
    head += [f"Content-Length: {len(body) if length is None else length}", *headers, "", ""]
    return "\r\n".join(head).encode("latin-1", "replace") + body


def any_request(chance: Chance) -> bytes:
    """Return a random method on a random path with random headers."""
    path = chance.choice(PATHS) if chance.random() < 0.6 else any_path(chance)
    lines = [
        f"{chance.choice(METHODS)} {path} HTTP/1.1",
        f"Host: {LOOPBACK}",
        "Connection: close",
        *any_headers(chance),
    ]
    body = chance.randbytes(chance.randrange(200)) if chance.random() < 0.3 else b""
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body


def any_path(chance: Chance) -> str:
    """Return a path that was made up."""
    pieces = ["v1", "p", "predictions", "..", ".", "%2e%2e", "%00", "%ff", "%", "\xe9", "a" * 500, ";", "?",
              "#", "*", "\\", ORDER, KEY, "files", "//", "?px=-1", "?cursor=%00", "?events=x", "&=", "house",
              "{order_id}", " "]  # fmt: skip
    return "/" + "/".join(chance.choices(pieces, k=chance.randrange(1, 7)))


def any_headers(chance: Chance) -> list[str]:
    """Return up to six headers that mean nothing."""
    return [f"{chance.choice(ODD_HEADERS)}: {chance.choice(ODD_VALUES)}" for _ in range(chance.randrange(6))]


def wrong_json(chance: Chance) -> bytes:
    """Return an order or a preview in which some members have absurd values."""
    pattern = {
        name: chance.choice(ODD)
        for name in ("negative_prompt", "seed", "repeat", "palette", "num_inference_steps", "guidance_scale", "size_px",
                     "model", "reuse", "nothing")
        if chance.random() < 0.2
    }  # fmt: skip
    if chance.random() < 0.2:
        pattern["repeat"] = {name: chance.choice(ODD) for name in ("layout", "drop", "axis", "units")}
    pattern["prompt"] = chance.choice([*ODD, "red dots", "half-drop", "\u2026", "ﷺ" * 999])
    is_order = chance.random() < 0.6
    members = ("version", "webhook", "webhook_events_filter", "stream")
    around = {name: chance.choice(ODD) for name in members if chance.random() < 0.1}
    body = {"input": pattern, **around} if is_order else pattern
    path = chance.choice(PATHS[4:5] + PATHS[12:13]) if is_order else "/v1/previews"
    headers = [header for header in any_headers(chance) if header.startswith(("Prefer", "Cancel", "Idem", "Accept:"))]
    return write_post(path, json.dumps(body).encode(), *(h for h in headers if not h.startswith("Prefer: wait=99")))


def not_json(chance: Chance) -> bytes:
    """Return a body that is no JSON, or JSON in an encoding that JSON does not have."""
    text = '{"prompt": "red dots", "seed": 1}'
    body = chance.choice([
        chance.randbytes(chance.randrange(2_000)), text.encode("utf-16"), text.encode("utf-32"),
        b"\xef\xbb\xbf" + text.encode(),
        b"[" * 50_000, b'{"a":' * 20_000, b"NaN", b"1e999999", b'"' + b"\\u0000" * 9_000, b'{"prompt": "\xff\xfe"}',
        b"{}" * 500, text.encode()[: chance.randrange(len(text))], b"\x1f\x8b\x08" + chance.randbytes(200),
    ])  # fmt: skip
    return write_post(chance.choice(PATHS[3:5]), body)


def wrong_length(chance: Chance) -> bytes:
    """Return a body longer or much larger than it says, or than anybody may send; some of it is really sent."""
    path = chance.choice(PATHS[3:5])
    if chance.random() < 0.2:
        return write_post(path, b'{"prompt": "' + b"a" * chance.choice([70_000, 2**20, GIANT_BYTES]) + b'"}')
    length = chance.choice([0, 1, 5, -1, 2**31, 2**63, 2**70])
    return write_post(path, b'{"prompt": "red dots"}', length=length)


def broken_http(chance: Chance) -> bytes:
    """Return what is not HTTP/1.1, or not quite."""
    post = write_post("/v1/previews", b"")[:-2].replace(b"Content-Length: 0\r\n", b"")
    return chance.choice([
        chance.randbytes(chance.randrange(1, 500)), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n", b"GET /\r\n\r\n", b"\r\n" * 200,
        b"GET / HTTP/1.1\r\n\r\n", b"GET  /  HTTP/1.1\r\nA\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 5_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 600_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        post + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        post + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nabc\r\n0\r\n\r\n",
        post + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc",
        post + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 3_000 + b"0\r\n\r\n",
        post + b"Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ])  # fmt: skip


def cut(chance: Chance) -> bytes:
    """Return a good request that will be cut off somewhere."""
    body = json.dumps({"input": {"prompt": "red dots", "size_px": 64}}).encode()
    return write_post(chance.choice(PATHS[3:5]), body)


def slow(chance: Chance) -> bytes:
    """Return a larger request, of which pieces will come slowly and the end never."""
    return write_post("/v1/previews", b'{"prompt": "' + b"a" * 900 + b'"}' + b" " * chance.randrange(30_000))


KINDS: dict[Callable[[Chance], bytes], int] = {
    any_request: 30, wrong_json: 30, not_json: 12, wrong_length: 6, broken_http: 12, cut: 8, slow: 2,
}  # fmt: skip


if __name__ == "__main__":
    main()
