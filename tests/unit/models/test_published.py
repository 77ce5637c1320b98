"""Bundles in an object store: published whole, fetched with nothing believed, and named by aliases that move."""

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from halfdrop.contracts.errors import InvalidInput, NotFound, PermanentError
from halfdrop.contracts.subjects import bundle_path
from halfdrop.models import published
from halfdrop.models.bundle import MANIFEST_NAME, Bundle, Manifest, open_bundle
from halfdrop.models.published import fetch_bundle, find_published, publish_bundle, read_alias, set_alias
from halfdrop.runtime.bandwidth import Bandwidth
from halfdrop.runtime.objects import ObjectStore, open_objects

if TYPE_CHECKING:
    from tests.unit.models.conftest import MakeBundle

WEIGHTS = "onnx/denoiser.onnx"
FILES = {WEIGHTS: bytes(range(256)) * 400, "tokenizer/vocab.json": b"[]"}


@pytest.fixture
def objects() -> ObjectStore:
    return open_objects("memory://")


@pytest.fixture
async def bundle(objects: ObjectStore, make_bundle: "MakeBundle") -> Bundle:
    """A published bundle."""
    made = open_bundle(make_bundle("house", files=FILES))
    await publish_bundle(objects, made)
    return made


class Reader:
    """Fetches, and counts what it was asked to wait for; stops after `stop_after` chunks."""

    def __init__(self, stop_after: int = 1_000) -> None:
        self.bytes = 0
        self.left = stop_after

    async def pace(self, size_bytes: int) -> None:
        if self.left == 0:
            raise TimeoutError
        self.left -= 1
        self.bytes += size_bytes


def accept(_: Manifest) -> None: ...


async def test_what_is_fetched_is_what_was_published(objects: ObjectStore, bundle: Bundle, tmp_path: Path) -> None:
    await fetch_bundle(objects, bundle.digest, tmp_path / "room", check=accept, pace=Reader().pace)
    fetched = open_bundle(tmp_path / "room")
    assert (fetched.digest, fetched.manifest) == (bundle.digest, bundle.manifest)


async def test_a_broken_off_fetch_goes_on_where_it_stopped(
    objects: ObjectStore, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "CHUNK_BYTES", 10_000)
    first, second = Reader(stop_after=4), Reader()
    with pytest.raises(TimeoutError):
        await fetch_bundle(objects, bundle.digest, tmp_path / "room", check=accept, pace=first.pace)
    await fetch_bundle(objects, bundle.digest, tmp_path / "room", check=accept, pace=second.pace)
    assert first.bytes + second.bytes == bundle.size_bytes
    assert open_bundle(tmp_path / "room").digest == bundle.digest


async def test_a_damaged_rest_of_an_earlier_fetch_is_fetched_anew(
    objects: ObjectStore, bundle: Bundle, tmp_path: Path
) -> None:
    for rest in (b"x" * 10, b"x" * 200_000):
        (tmp_path / "room" / "onnx").mkdir(parents=True, exist_ok=True)
        (tmp_path / "room" / WEIGHTS).write_bytes(rest)
        await fetch_bundle(objects, bundle.digest, tmp_path / "room", check=accept, pace=Reader().pace)
        assert open_bundle(tmp_path / "room").digest == bundle.digest


@pytest.mark.parametrize("damage", ["changed", "shorter", "missing", "another manifest", "a path that leads out"])
async def test_anything_else_than_the_bundle_of_that_digest_is_refused(
    objects: ObjectStore, bundle: Bundle, tmp_path: Path, damage: str
) -> None:
    path, manifest = bundle_path(bundle.digest, WEIGHTS), bundle_path(bundle.digest, MANIFEST_NAME)
    if damage == "changed":
        await objects.put(path, FILES[WEIGHTS][:-1] + b"x")
    elif damage == "shorter":
        await objects.put(path, FILES[WEIGHTS][:-1])
    elif damage == "missing":
        await objects.delete(path)
    else:
        file = {"sha256": hashlib.sha256(b"").hexdigest(), "bytes": 0}
        files = {"x" if damage == "another manifest" else "../x": file}
        said = msgspec.to_builtins(bundle.manifest) | {"files": files}
        await objects.put(manifest, msgspec.json.encode(said))
    with pytest.raises(PermanentError) as caught:
        await fetch_bundle(objects, bundle.digest, tmp_path / "room", check=accept, pace=Reader().pace)
    assert caught.value.code == "bad-bundle"
    assert not (tmp_path / "room" / MANIFEST_NAME).exists()


async def test_a_bundle_may_be_refused_before_its_files_are_read(
    objects: ObjectStore, bundle: Bundle, tmp_path: Path
) -> None:
    def refuse(_: Manifest) -> None:
        raise PermanentError("too large", code="not-served")

    reader = Reader()
    with pytest.raises(PermanentError, match="too large"):
        await fetch_bundle(objects, bundle.digest, tmp_path / "room", check=refuse, pace=reader.pace)
    assert reader.bytes == 0


async def test_what_is_not_published_and_what_no_edge_draws_with_says_so(
    objects: ObjectStore, tmp_path: Path, make_bundle: "MakeBundle"
) -> None:
    with pytest.raises(NotFound, match="models publish"):
        await fetch_bundle(objects, "0" * 64, tmp_path / "room", check=accept, pace=Reader().pace)
    with pytest.raises(PermanentError, match="checkpoint") as caught:
        await publish_bundle(objects, open_bundle(make_bundle("roses", kind="checkpoint")))
    assert caught.value.code == "not-served"
    assert await objects.list("models") == []


async def test_an_alias_moves_and_set_again_to_the_same_is_told_apart(
    objects: ObjectStore, bundle: Bundle, make_bundle: "MakeBundle"
) -> None:
    assert await read_alias(objects, "house@stable") is None
    assert (await set_alias(objects, "house@stable", "house"))[0] == bundle.digest
    first = await read_alias(objects, "house@stable")
    await set_alias(objects, "house@stable", bundle.digest[:8])
    second = await read_alias(objects, "house@stable")
    assert first is not None
    assert second is not None
    assert first.digest == second.digest == bundle.digest
    assert first != second
    other = open_bundle(make_bundle("house", files={"x": b"1"}, version="2"))
    await publish_bundle(objects, other)
    with pytest.raises(NotFound, match="may be any of"):
        await find_published(objects, "house")
    await set_alias(objects, "house@stable", "house-2")
    moved = await read_alias(objects, "house@stable")
    assert moved is not None
    assert moved.digest == other.digest


@pytest.mark.parametrize("alias", ["house", "House@stable", "house@", "../house@stable", "roses@stable"])
async def test_an_alias_that_no_client_could_ask_for_is_refused(
    objects: ObjectStore, bundle: Bundle, alias: str
) -> None:
    with pytest.raises(InvalidInput, match="alias"):
        await set_alias(objects, alias, bundle.digest)


async def test_bandwidth_is_kept_by_all_who_share_it() -> None:
    bandwidth, loop = Bandwidth(100_000), asyncio.get_running_loop()
    began_s = loop.time()

    async def take(times: int) -> None:
        for _ in range(times):
            await bandwidth.take(5_000)

    await asyncio.gather(take(6), take(6))
    took_s = loop.time() - began_s
    assert 0.34 < took_s < 1.0  # 60 kB at 100 kB/s, less the burst of a quarter second
