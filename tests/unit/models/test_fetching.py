"""Models on a node: fetched once, found again, replaced in one step, and never half there."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from halfdrop.contracts.errors import NotFound, PermanentError
from halfdrop.contracts.subjects import bundle_path
from halfdrop.models.bundle import open_bundle, shipped_bundle_dir
from halfdrop.models.fetching import fetch_models
from halfdrop.models.published import publish_bundle, set_alias
from halfdrop.runtime.objects import ObjectStore, open_objects

MIB = 2**20
ChangeBundle = Callable[..., Path]


@pytest.fixture
def objects() -> ObjectStore:
    return open_objects("memory://")


async def free(_: int) -> None:
    """No bound."""


async def fetch(
    objects: ObjectStore, folder: Path, *references: str, pace: Callable[[int], Awaitable[None]] = free
) -> Any:
    return await fetch_models(objects, references or ("house@stable",), folder, max_bytes=64 * MIB, pace=pace)


async def test_what_an_alias_means_is_brought_once_and_found_by_its_name(objects: ObjectStore, tmp_path: Path) -> None:
    bundle = open_bundle(shipped_bundle_dir())
    await publish_bundle(objects, bundle)
    await set_alias(objects, "house@stable", "house")
    folder, read = tmp_path / "node", 0

    async def count(size_bytes: int) -> None:
        nonlocal read
        read += size_bytes

    [first] = await fetch(objects, folder, pace=count)
    assert not first.was_there
    assert read == bundle.size_bytes
    assert open_bundle(folder / "house@stable").digest == bundle.digest
    [again] = await fetch(objects, folder, pace=count)
    assert again.was_there
    assert read == bundle.size_bytes, "nothing is read twice"


async def test_a_new_meaning_takes_the_name_in_one_step_and_the_oldest_goes(
    objects: ObjectStore, tmp_path: Path, change_bundle: ChangeBundle
) -> None:
    bundles = [open_bundle(change_bundle(version, files={"VERSION": version.encode()})) for version in ("4", "5", "6")]
    folder = tmp_path / "node"
    for bundle in bundles:
        await publish_bundle(objects, bundle)
        await set_alias(objects, "house@stable", bundle.digest)
        [fetched] = await fetch(objects, folder)
        assert fetched.link.resolve().name == bundle.digest
    assert not (folder / bundles[0].digest).exists()
    assert open_bundle(folder / bundles[1].digest), "a worker may be starting with it"


async def test_a_damaged_bundle_is_brought_anew(objects: ObjectStore, tmp_path: Path) -> None:
    bundle = open_bundle(shipped_bundle_dir())
    await publish_bundle(objects, bundle)
    folder = tmp_path / "node"
    [fetched] = await fetch(objects, folder, "house")
    name = next(iter(bundle.manifest.files))
    (folder / bundle.digest / name).write_bytes(b"rot")
    [mended] = await fetch(objects, folder, "house")
    assert (fetched.was_there, mended.was_there) == (False, False)
    assert open_bundle(folder / "house").digest == bundle.digest


async def test_several_pods_of_a_node_fetch_at_once(objects: ObjectStore, tmp_path: Path) -> None:
    bundle = open_bundle(shipped_bundle_dir())
    await publish_bundle(objects, bundle)
    await set_alias(objects, "house@stable", "house")
    await asyncio.gather(*(fetch(objects, tmp_path / "node") for _ in range(3)))
    assert open_bundle(tmp_path / "node/house@stable").digest == bundle.digest
    assert [path.name for path in (tmp_path / "node").iterdir() if path.name.startswith(".incoming")] == []


async def test_what_is_wrong_is_said_and_leaves_nothing_behind(objects: ObjectStore, tmp_path: Path) -> None:
    folder = tmp_path / "node"
    with pytest.raises(NotFound, match="models serve house@stable"):
        await fetch(objects, folder)
    bundle = open_bundle(shipped_bundle_dir())
    await publish_bundle(objects, bundle)
    with pytest.raises(PermanentError, match="--max-mib"):
        await fetch_models(objects, ["house"], folder, max_bytes=MIB, pace=free)
    await objects.put(bundle_path(bundle.digest, "tokenizer/vocab.json"), b"other")
    with pytest.raises(PermanentError) as refused:
        await fetch(objects, folder, "house")
    assert refused.value.code == "bad-bundle"
    assert not (folder / bundle.digest).exists()
    assert not (folder / "house").exists()
