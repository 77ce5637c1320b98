"""schemathesis reads the description that an edge serves and tries to find where the edge does otherwise.

All of its checks are on: statuses, media types, headers and bodies as described, what is described as valid accepted,
what is not refused, other methods refused, no answer without a key where one is asked for. HALFDROP_FUZZ_EXAMPLES asks
for more examples of each operation than the few of a usual run, chosen anew each time.
"""

import json
import os
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
import pytest_asyncio
import schemathesis
from hypothesis import HealthCheck, Phase, settings

from halfdrop.contracts.subjects import HUB_DOMAIN, edge_domain
from halfdrop.deploy.parts import Part
from halfdrop.deploy.ports import LOOPBACK, choose_port
from halfdrop.deploy.processes import EDGE_NAME, make_edge
from halfdrop.deploy.servers import run_nats_server, run_valkey
from halfdrop.edge.idempotency import HEADER
from halfdrop.edge.keys import create_key
from halfdrop.edge.openapi import describe_api
from halfdrop.models.bundle import open_bundle, shipped_bundle_dir
from halfdrop.runtime.objects import open_objects

EXAMPLES = int(os.environ.get("HALFDROP_FUZZ_EXAMPLES", "0"))
FEW = 4

BUNDLE = open_bundle(shipped_bundle_dir())
MODELS = (BUNDLE.name, f"{BUNDLE.name}-{BUNDLE.version}", BUNDLE.digest)
OPEN, KEYED = (
    schemathesis.openapi.from_dict(
        msgspec.json.decode(msgspec.json.encode(describe_api(models=MODELS, asks_keys=asks_keys)))
    )
    for asks_keys in (False, True)
)
OPEN_NOW = OPEN
if not EXAMPLES:  # edge cases of every member of a body are hundreds of requests: a usual run has those of one body
    KEYED.config.phases.coverage.enabled = False
    OPEN_NOW = OPEN.exclude(path=["/v1/previews", "/v1/models/{owner}/{name}/predictions"])

BATCHES = "/v1/batches"


@schemathesis.serializer("application/jsonl", "application/x-ndjson")
def write_lines(_: schemathesis.SerializationContext, value: object) -> bytes:
    """Write each item of a list on a line of its own, and anything else as one line."""
    items = value if isinstance(value, list) else [value]
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


fuzzed = settings(
    max_examples=EXAMPLES or FEW,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Fuzzable:
    """A running edge, and a key of it: "" on an open one."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    def check(self, case: schemathesis.Case) -> None:
        """Send `case` and apply every check to what comes back."""
        # The second order under one key is refused with 422 however valid it is; no schema can say so.
        is_negative = case.meta is not None and case.meta.generation.mode.is_negative
        if case.headers and HEADER in case.headers and not is_negative:
            case.headers[HEADER] = str(uuid.uuid4())
        if case.headers and str(case.headers.get("Prefer", "")).startswith("wait"):
            case.headers["Prefer"] = "wait=0"  # no hub finishes orders here: each would wait in vain
        if not is_negative:  # which templates there are, and what each allows beside it, no schema can say
            for asked in _inputs(case.body):
                asked.pop("template", None)
        query = case.query or {}
        if case.path == BATCHES and case.method == "POST" and is_negative and query.get("on_error") in (None, "skip"):
            case.query = {**query, "on_error": "refuse"}  # by itself one bad line only loses its place
        case.call_and_validate(base_url=self.url, headers=self.headers, timeout=30)


def _inputs(body: object) -> list[dict[str, object]]:
    """Return the members of a body that say what to draw: of a preview, of an order, of each line of a batch."""
    bodies = body if isinstance(body, list) else [body]
    objects = [one for one in bodies if isinstance(one, dict)]
    return [*objects, *(one["input"] for one in objects if isinstance(one.get("input"), dict))]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edges(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Fuzzable]]:
    root = tmp_path_factory.mktemp("fuzz")
    objects_url = (root / "objects").as_uri()
    (root / "objects").mkdir()
    key, _ = await create_key(
        open_objects(objects_url), tenant="acme", scopes=("orders", "previews"), tier="unlimited", label="",
        now=time.time(), expires_at=None,
    )  # fmt: skip
    async with (
        run_nats_server(name="hub", data_dir=root / "hub", domain=HUB_DOMAIN, leaf_port=0) as hub,
        run_nats_server(
            name="edge", data_dir=root / "nats", domain=edge_domain(EDGE_NAME), leaf_remote=hub.leaf_url
        ) as nats,
        run_valkey(data_dir=root / "valkey") as valkey,
    ):
        parts: list[Part] = []
        found: dict[str, Fuzzable] = {}
        try:
            for access in ("open", "keys"):
                port = choose_port()
                with pytest.MonkeyPatch.context() as patch:
                    patch.setenv("HALFDROP_EDGE_ACCESS", access)
                    part = make_edge(
                        port=port, nats_url=nats.url, redis_url=valkey.url, objects_url=objects_url,
                        data_dir=root / access, log_path=root / f"{access}.log",
                    )  # fmt: skip
                await part.start()
                parts.append(part)
                found[access] = Fuzzable(f"http://{LOOPBACK}:{port}", key if access == "keys" else "")
            yield found
        finally:
            for part in parts:
                await part.stop()
    assert_nothing_unexpected(root)


def assert_nothing_unexpected(root: Path) -> None:
    logged = [line for log in root.glob("*.log") for line in log.read_text(errors="replace").splitlines()]
    assert not [line for line in logged if "unexpected_error" in line or "internal_error" in line]


@OPEN_NOW.parametrize()
@fuzzed
def test_an_open_edge_does_what_it_describes(case: schemathesis.Case, edges: dict[str, Fuzzable]) -> None:
    edges["open"].check(case)


@KEYED.parametrize()
@fuzzed
def test_an_edge_with_keys_does_what_it_describes(case: schemathesis.Case, edges: dict[str, Fuzzable]) -> None:
    edges["keys"].check(case)


def test_what_was_fuzzed_is_what_the_edges_serve(edges: dict[str, Fuzzable]) -> None:
    for access, schema in (("open", OPEN), ("keys", KEYED)):
        served = httpx.get(f"{edges[access].url}/schema/openapi.json").raise_for_status().json()
        assert served == schema.raw_schema
