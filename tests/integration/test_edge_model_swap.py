"""A live edge gets another model while it is asked all the time, and the first one back: nothing fails or mixes."""

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from halfdrop.contracts.patterns import PatternSpec, pattern_key
from halfdrop.models.bundle import SHIPPED_BUNDLE, open_bundle, shipped_bundle_dir
from halfdrop.runtime.objects import open_objects

if TYPE_CHECKING:
    from tests.conftest import ChangeBundle, WaitUntil
    from tests.integration.conftest import StartEdge

ASKING = 3
JSON = {"Accept": "application/json"}


def models(objects_url: str, models_dir: Path, *arguments: str | Path) -> str:
    environ = {**os.environ, "HALFDROP_EDGE_OBJECTS_URL": objects_url, "HALFDROP_MODELS_DIR": str(models_dir)}
    program = [Path(sys.executable).with_name("halfdrop"), "models", *map(str, arguments)]
    ended = subprocess.run(program, env=environ, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


class Load:
    """Asks an edge for new previews, known ones, and pictures by key, without a pause, and judges each answer."""

    def __init__(self, client: httpx.AsyncClient, red_digest: str) -> None:
        self._client = client
        self._red_digest = red_digest
        self._seeds = itertools.count()
        self._pictures: dict[str, bytes] = {}
        self.by_digest: Counter[str] = Counter()
        self.hits = 0
        self.wrong: list[str] = []
        self.is_over = False

    async def ask(self) -> None:
        while not self.is_over:
            try:
                await self._ask_once(next(self._seeds))
            except (httpx.HTTPError, KeyError, ValueError) as error:
                self.wrong.append(repr(error))

    async def _ask_once(self, seed: int) -> None:
        body, counted = {"prompt": "red dots on white", "seed": seed}, self.by_digest
        made = await self._client.post("/v1/previews", json=body, headers=JSON)
        self._expect(made.status_code == 200, made.text)
        found: dict[str, Any] = made.json()
        spec = msgspec.convert(found["spec"] | {"type": "pattern.v1"}, PatternSpec)
        self._expect(found["key"] == pattern_key(spec), "the key is not that of the spec")
        # The other model takes red for blue: the palette shows which one drew.
        red, blue = int(found["palette"][1][1:3], 16), int(found["palette"][1][5:7], 16)
        self._expect((red > blue) == (spec.model_digest == self._red_digest), f"{spec.model_digest}: {found}")
        counted[spec.model_digest] += 1
        picture = await self._client.get(found["url"])
        self._expect(picture.status_code == 200 and "hit" in picture.headers["cache-status"], str(picture))
        self._pictures[found["url"]] = picture.content
        for url, content in list(self._pictures.items())[:4]:  # of the first model, to the end
            again = await self._client.get(url)
            self._expect(again.status_code == 200 and again.content == content, f"{url} is another picture")
            self.hits += 1

    def _expect(self, is_right: bool, otherwise: str) -> None:
        if not is_right:
            self.wrong.append(otherwise)


async def model_of(client: httpx.AsyncClient) -> str:
    return str((await client.get("/healthz")).json()["parts"]["model"]["detail"])


async def test_a_swap_and_a_rollback_under_load_fail_no_request_and_mix_no_models(
    start_edge: "StartEdge", objects_url: str, change_bundle: "ChangeBundle", wait_until: "WaitUntil", tmp_path: Path
) -> None:
    shipped = open_bundle(shipped_bundle_dir())
    edge = await start_edge(PREVIEW_THREADS=1)
    models(objects_url, tmp_path / "store", "publish", "house")
    models(objects_url, tmp_path / "store", "import", change_bundle("99"))
    models(objects_url, tmp_path / "store", "publish", "house-99")
    other = open_bundle(tmp_path / "bundle-99").digest
    order = {"input": {"prompt": "red dots on white", "seed": 1, "size_px": 256}}
    before = (await edge.client.post("/v1/predictions", json=order)).json()
    load = Load(edge.client, shipped.digest)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(ASKING):
            tasks.create_task(load.ask())
        for version, digest in (("house-99", other), (SHIPPED_BUNDLE, shipped.digest), ("house-99", other)):
            await wait_until(lambda: load.by_digest.total() > 5)
            await asyncio.to_thread(models, objects_url, tmp_path / "store", "serve", "house@stable", version)

            async def has_swapped(digest: str = digest) -> bool:
                return digest in await model_of(edge.client)

            await wait_until(has_swapped, timeout_s=60, poll_s=0.1)
            load.by_digest = Counter()  # a request that is under way may still end with the old model
        await wait_until(lambda: load.by_digest.total() > 5)
        load.is_over = True
    assert load.wrong == []
    assert set(load.by_digest) == {other}, "once swapped, nothing new is made with the old one"
    assert load.hits > 20
    assert (await edge.client.get("/healthz")).json()["status"] == "ok"
    # Who ordered from the first model has the order still; who asks for it by its digest is told what there is.
    after = (await edge.client.get(f"/v1/predictions/{before['id']}")).json()
    assert (after["version"], after["status"]) == (shipped.digest, "starting")
    refused = await edge.client.post("/v1/previews", json={"prompt": "red dots on white", "model": shipped.digest})
    assert refused.status_code == 422
    assert other in refused.json()["detail"]
    # A restart begins with what was served last, before it has asked anybody.
    await edge.kill()
    await edge.start()
    assert other in await model_of(edge.client)
    # A broken bundle is refused where everybody can see it.
    await open_objects(objects_url).put(f"models/{'a' * 64}/manifest.json", b"{}")
    alias = {"type": "model-alias.v1", "digest": "a" * 64, "set_at": 1}
    await open_objects(objects_url).put("model-aliases/house@stable.json", json.dumps(alias).encode())

    async def is_refused() -> bool:
        return "refused: " + "a" * 12 in await model_of(edge.client)

    await wait_until(is_refused)
    assert other in await model_of(edge.client)
