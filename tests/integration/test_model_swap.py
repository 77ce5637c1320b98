"""A model is replaced while requests are under way: they end with their own, and then it is freed."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from halfdrop.cache.memory import MemoryTier
from halfdrop.cache.tiered import TieredCache
from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.patterns import PatternRequest
from halfdrop.edge.model_swap import BEFORE, NOW, TRYING, ModelSwap
from halfdrop.edge.previewer import OnnxPreviewer, open_previewer
from halfdrop.edge.tenants import TenantPreviews
from halfdrop.models.bundle import Bundle, open_bundle, shipped_bundle_dir
from halfdrop.models.published import publish_bundle, set_alias
from halfdrop.models.store import ModelStore
from halfdrop.runtime.bandwidth import Bandwidth
from halfdrop.runtime.objects import ObjectStore, open_objects

if TYPE_CHECKING:
    from tests.conftest import ChangeBundle, WaitUntil

RED_ON_WHITE = PatternRequest(prompt="red dots on white")
RED, BLUE = "red", "blue"


@pytest.fixture
def objects() -> ObjectStore:
    return open_objects("memory://")


@pytest.fixture
async def previews(objects: ObjectStore) -> AsyncIterator[TenantPreviews]:
    """Previews with the shipped model over a memory tier."""
    bundle = open_bundle(shipped_bundle_dir())
    async with (
        TieredCache([MemoryTier(2**24)]) as cache,
        open_previewer(bundle, threads=1, waiting_max=8) as previewer,
    ):
        made = TenantPreviews(bundle=bundle, previewer=previewer, cache=cache)
        del previewer
        yield made


class Scene:
    """Previews, the object store that they follow, and the folder of the edge's own bundles."""

    def __init__(self, previews: TenantPreviews, objects: ObjectStore, directory: Path) -> None:
        self.previews = previews
        self.shipped = previews.bundle
        self.objects = objects
        self.directory = directory
        self.store = ModelStore(directory)

    def make_swap(self, *, objects: ObjectStore | None = None, max_bytes: int = 2**28) -> ModelSwap:
        return ModelSwap(
            alias="house@stable",
            directory=self.directory,
            objects=objects or self.objects,
            previews=self.previews,
            max_bytes=max_bytes,
            bandwidth=Bandwidth(2**40),
        )

    def own(self) -> set[str]:
        """Return the digests of the bundles that were fetched and are still here."""
        return {bundle.digest for bundle in self.store.bundles() if not bundle.is_shipped}

    def serves(self, bundle: Bundle) -> bool:
        return self.previews.bundle.digest == bundle.digest

    def remembers(self, now: Bundle, before: Bundle) -> bool:
        aliases = self.store.aliases()
        return (aliases.get(NOW), aliases.get(BEFORE)) == (now.digest, before.digest)


@pytest.fixture
def scene(previews: TenantPreviews, objects: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr("halfdrop.edge.model_swap.POLL_S", 0.05)
    return Scene(previews, objects, tmp_path / "edge-models")


async def publish(objects: ObjectStore, directory: Path) -> Bundle:
    bundle = open_bundle(directory)
    await publish_bundle(objects, bundle)
    await set_alias(objects, "house@stable", bundle.digest)
    return bundle


async def colour_drawn(previews: TenantPreviews, tenant: str = "local") -> str:
    """Return what a model that may take red for blue draws for "red"."""
    ours = previews.of(tenant)
    plates = await ours.plates(ours.understand(RED_ON_WHITE))
    red, blue = int(plates.palette[1][1:3], 16), int(plates.palette[1][5:7], 16)
    return RED if red > blue else BLUE


async def test_who_began_with_a_model_ends_with_it_and_then_it_is_freed(
    previews: TenantPreviews, change_bundle: "ChangeBundle"
) -> None:
    old = previews.of("local")
    model = weakref.ref(previews.previewer._model)
    asked = old.understand(RED_ON_WHITE)
    bundle = open_bundle(change_bundle("4"))
    drawing = asyncio.create_task(old.preview_pattern(asked, 512))
    previews.swap(bundle, await previews.previewer.load(bundle))
    await drawing
    plates = await old.plates(asked)
    assert plates.model_digest == asked.spec.model_digest != bundle.digest
    assert int(plates.palette[1][1:3], 16) > int(plates.palette[1][5:7], 16), "red, as its digest says"
    assert await colour_drawn(previews) == await colour_drawn(previews, "acme") == BLUE
    assert model() is not None
    del old, drawing
    gc.collect()
    assert model() is None


async def test_an_edge_follows_the_alias_there_and_back_and_keeps_two_bundles(
    scene: Scene, change_bundle: "ChangeBundle", wait_until: "WaitUntil"
) -> None:
    objects, following = scene.objects, asyncio.create_task(scene.make_swap().follow())
    fourth = await publish(objects, change_bundle("4"))
    await wait_until(lambda: scene.remembers(fourth, scene.shipped))
    assert await colour_drawn(scene.previews) == BLUE
    fifth = await publish(objects, change_bundle("5", files={"scheduler/scheduler_config.json": b"{}"}))
    await wait_until(lambda: scene.remembers(fifth, fourth))
    sixth = await publish(objects, change_bundle("6", files={"scheduler/scheduler_config.json": b"[]"}))
    await wait_until(lambda: scene.remembers(sixth, fifth))
    await wait_until(lambda: scene.own() == {sixth.digest, fifth.digest})
    for path in fifth.manifest.files:
        await objects.delete(f"models/{fifth.digest}/{path}")  # what is on the disk is not fetched again
    await set_alias(objects, "house@stable", fifth.digest)
    await wait_until(lambda: scene.remembers(fifth, sixth))
    await publish(objects, scene.shipped.directory)
    await wait_until(lambda: scene.serves(scene.shipped))
    assert await colour_drawn(scene.previews) == RED
    following.cancel()


async def test_after_a_restart_the_last_model_is_served_and_the_one_before_still_there(
    scene: Scene, change_bundle: "ChangeBundle", wait_until: "WaitUntil"
) -> None:
    previewer, following = scene.previews.previewer, asyncio.create_task(scene.make_swap().follow())
    fourth = await publish(scene.objects, change_bundle("4"))
    await wait_until(lambda: scene.remembers(fourth, scene.shipped))
    fifth = await publish(scene.objects, change_bundle("5", files={"scheduler/scheduler_config.json": b"{}"}))
    await wait_until(lambda: scene.remembers(fifth, fourth))
    following.cancel()
    scene.previews.swap(scene.shipped, previewer)  # as a new process begins
    again = scene.make_swap(objects=open_objects("memory://"))  # the object store says nothing
    await again.resume()
    assert scene.serves(fifth)
    assert scene.remembers(fifth, fourth)
    assert scene.own() == {fourth.digest, fifth.digest}
    (scene.store.find(fifth.digest).directory / "onnx" / "denoiser.onnx").write_bytes(b"damaged")
    scene.previews.swap(scene.shipped, previewer)
    await again.resume()
    assert scene.serves(scene.shipped)


BAD = {
    "no graph": {"files": {"onnx/denoiser.onnx": b"not a graph"}},
    "another kind": {"kind": "house-render"},
    "another name": {"name": "roses", "files": {"scheduler/scheduler_config.json": b"{}"}},
    "another vocabulary": {"files": {"tokenizer/vocab.json": b"[]"}},
    "too large": {"files": {"text_encoder/model.safetensors": bytes(2**22)}},
}


@pytest.mark.parametrize("fault", [*BAD, "damaged", "not published", "no manifest"])
async def test_a_bundle_that_cannot_be_served_is_refused_and_the_edge_goes_on(
    scene: Scene, change_bundle: "ChangeBundle", wait_until: "WaitUntil", fault: str
) -> None:
    objects, swap = scene.objects, scene.make_swap(max_bytes=20 * 2**20)
    bundle = open_bundle(change_bundle("4", **BAD.get(fault, {})))
    folder, weights = f"models/{bundle.digest}", "onnx/denoiser.onnx"
    for path in (*bundle.manifest.files, "manifest.json"):
        await objects.put(f"{folder}/{path}", (bundle.directory / path).read_bytes())
    if fault == "damaged":
        content = (bundle.directory / weights).read_bytes()
        await objects.put(f"{folder}/{weights}", content[:-1] + bytes([content[-1] ^ 1]))
    elif fault == "not published":
        await objects.delete(f"{folder}/manifest.json")
    elif fault == "no manifest":
        await objects.put(f"{folder}/manifest.json", b'{"name": "house", "format": 9}')
    alias = b'{"type": "model-alias.v1", "digest": "%s", "set_at": 1}' % bundle.digest.encode()
    await objects.put("model-aliases/house@stable.json", alias)
    following = asyncio.create_task(swap.follow())
    await wait_until(lambda: swap.refused)
    assert swap.refused.startswith(bundle.digest[:12])
    assert scene.previews.bundle is scene.shipped
    assert await colour_drawn(scene.previews) == RED
    await wait_until(lambda: not scene.own() and not list(scene.directory.glob(".fetching/*")))
    good = await publish(objects, change_bundle("5", files={"scheduler/scheduler_config.json": b"[1]"}))
    await wait_until(lambda: scene.serves(good) and not swap.refused)
    following.cancel()


async def test_a_model_that_draws_nothing_is_refused(
    previews: TenantPreviews, change_bundle: "ChangeBundle", monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(change_bundle("4"))
    draw = OnnxPreviewer.load
    monkeypatch.setattr("halfdrop.edge.previewer.tidy_fields", lambda fields: fields * 0 - 1)
    with pytest.raises(PermanentError, match="blank"):
        await draw(previews.previewer, bundle)


async def test_an_alias_that_moves_on_while_its_bundle_is_fetched_is_followed_at_once(
    scene: Scene, change_bundle: "ChangeBundle", wait_until: "WaitUntil"
) -> None:
    swap, rooms = scene.make_swap(), scene.directory / ".fetching"
    swap._bandwidth = Bandwidth(2**18)  # 80 s for the whole
    fourth = await publish(scene.objects, change_bundle("4"))
    following = asyncio.create_task(swap.follow())
    await wait_until(lambda: list(rooms.glob(f"{fourth.digest}/*")))
    fifth = await publish(scene.objects, change_bundle("5", files={"scheduler/scheduler_config.json": b"{}"}))
    await wait_until(lambda: [room.name for room in rooms.glob("*")] == [fifth.digest])
    swap._bandwidth = Bandwidth(2**40)
    await wait_until(lambda: scene.serves(fifth))
    assert swap.swaps == 1
    following.cancel()


async def test_a_bundle_that_ends_the_process_is_not_tried_for_ever(
    scene: Scene, change_bundle: "ChangeBundle", wait_until: "WaitUntil", monkeypatch: pytest.MonkeyPatch
) -> None:
    marks, fourth = [], await publish(scene.objects, change_bundle("4"))

    async def crash(_: OnnxPreviewer, __: Bundle) -> OnnxPreviewer:
        marks.append((scene.directory / TRYING).read_bytes())
        raise asyncio.CancelledError  # as near to the end of a process as a test can come

    with monkeypatch.context() as patch:
        patch.setattr(OnnxPreviewer, "load", crash)
        for _ in range(2):
            with pytest.raises(asyncio.CancelledError):
                await scene.make_swap().follow()
            (scene.directory / TRYING).write_bytes(marks[-1])
    swap = scene.make_swap()
    following = asyncio.create_task(swap.follow())
    await wait_until(lambda: swap.refused)
    assert "ended 2 times" in swap.refused
    assert scene.previews.bundle is scene.shipped
    await publish(scene.objects, fourth.directory)  # said again, it is tried again
    await wait_until(lambda: scene.serves(fourth))
    following.cancel()
