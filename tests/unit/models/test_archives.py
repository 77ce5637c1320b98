"""There is one archive of a bundle, any tar can unpack it, and no other bytes are taken for it."""

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from halfdrop.contracts.errors import PermanentError
from halfdrop.models.archives import (
    ARCHIVE_NAME,
    BLOCK_BYTES,
    Archive,
    member_header,
    pack_bundle,
    read_archive_manifest,
    unpack_bundle,
)
from halfdrop.models.bundle import (
    MANIFEST_NAME,
    BundleFile,
    Manifest,
    bundle_digest,
    open_bundle,
    read_manifest,
)
from halfdrop.models.store import ModelStore

MakeBundle = Callable[..., Path]


@pytest.fixture
def packed(make_bundle: MakeBundle, tmp_path: Path) -> Path:
    archive = tmp_path / "small.halfdrop.tar"
    pack_bundle(open_bundle(make_bundle()), archive)
    return archive


def refusal(archive: Path, room: Path) -> PermanentError:
    """Return how an archive is refused; its room stays out of sight in a store, and is removed there."""
    with pytest.raises(PermanentError) as caught:
        unpack_bundle(archive, room)
    assert caught.value.code in ("bad-archive", "bad-bundle")
    assert caught.value.detail.count("\n") == 0
    return caught.value


def test_a_bundle_comes_out_as_it_went_in(make_bundle: MakeBundle, tmp_path: Path) -> None:
    files = {"empty": b"", "block": b"x" * 512, "more": b"y" * 513, "deep/er/file": b"z", "ünicode": b"u"}
    bundle = open_bundle(make_bundle(files=files))
    told: list[tuple[str, int, int]] = []
    archive, room = tmp_path / "out.halfdrop.tar", tmp_path / "room"
    size = pack_bundle(bundle, archive, on_progress=lambda *progress: told.append(progress))
    assert archive.stat().st_size == size
    assert unpack_bundle(archive, room, on_progress=lambda *progress: told.append(progress)) == bundle.digest
    assert open_bundle(room).manifest == bundle.manifest
    assert {path: (room / path).read_bytes() for path in files} == files
    assert read_archive_manifest(archive) == bundle.manifest
    assert told[-1] == ("unpacking", bundle.size_bytes, bundle.size_bytes)
    assert ("packing", bundle.size_bytes, bundle.size_bytes) in told


def test_equal_bundles_make_equal_archives(make_bundle: MakeBundle, tmp_path: Path) -> None:
    sources = [make_bundle(), make_bundle()]
    os.utime(sources[1] / "model_index.json", (1, 1))
    (sources[1] / "model_index.json").chmod(0o600)
    archives = [tmp_path / "a.halfdrop.tar", tmp_path / "b.halfdrop.tar"]
    for source, archive in zip(sources, archives, strict=True):
        pack_bundle(open_bundle(source), archive)
    assert archives[0].read_bytes() == archives[1].read_bytes()


def test_the_form_of_an_archive_is_held_still(make_bundle: MakeBundle, tmp_path: Path) -> None:
    archive = tmp_path / "golden.halfdrop.tar"
    pack_bundle(open_bundle(make_bundle(files={"weights": b"golden"})), archive)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert digest == "71b998dcef233234d27bb98fb886b9f1fff8de00f783673684726933efce1913", (
        "archives that others keep must still be read: change the reader first"
    )


def test_any_tar_unpacks_it_into_a_bundle(packed: Path, tmp_path: Path) -> None:
    with tarfile.open(packed, "r:") as tar:
        members = tar.getmembers()
    # Another program than Python's, as people have it.
    (tmp_path / "by-hand").mkdir()
    subprocess.run(["tar", "-xf", packed, "-C", tmp_path / "by-hand"], check=True)
    names = [member.name for member in members]
    assert names == [ARCHIVE_NAME, MANIFEST_NAME, *sorted(names[2:])]
    for member in members:
        assert member.isreg()
        assert (member.mode, member.uid, member.gid, member.mtime, member.uname) == (0o644, 0, 0, 0, "")
    described = json.loads((tmp_path / "by-hand" / ARCHIVE_NAME).read_text())
    assert open_bundle(tmp_path / "by-hand").digest == described["digest"]


def test_the_header_of_a_file_beyond_eight_gib_is_one_that_others_read() -> None:
    for size in (0, 8**11 - 1, 8**11, 2**36):
        info = tarfile.TarInfo.frombuf(member_header("unet/weights.safetensors", size), "utf-8", "strict")
        assert (info.name, info.size, info.isreg()) == ("unet/weights.safetensors", size, True)


# Hypothesis draws from one archive, which is only read.
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 2**14), bit=st.integers(0, 7))
@example(place=0, bit=0)
@example(place=-1, bit=0)
def test_a_bit_flipped_anywhere_is_found(packed: Path, place: int, bit: int) -> None:
    whole = packed.read_bytes()
    data = bytearray(whole)
    data[place % len(data)] ^= 1 << bit
    room = packed.with_name(f"room-{os.urandom(8).hex()}")
    packed.write_bytes(data)
    try:
        refusal(packed, room)
    finally:
        packed.write_bytes(whole)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(0, 2**14))
@example(length=0)
@example(length=-1)
@example(length=-BLOCK_BYTES)
@example(length=-2 * BLOCK_BYTES)
def test_a_cut_anywhere_is_found(packed: Path, length: int) -> None:
    whole = packed.read_bytes()
    packed.write_bytes(whole[: length % len(whole)])
    try:
        refusal(packed, packed.with_name(f"room-{os.urandom(8).hex()}"))
    finally:
        packed.write_bytes(whole)


@pytest.mark.parametrize("junk", [b"\0", b"x", bytes(BLOCK_BYTES), bytes(10_240)])
def test_nothing_may_follow_the_end(packed: Path, tmp_path: Path, junk: bytes) -> None:
    with packed.open("ab") as stream:
        stream.write(junk)
    assert "more than its manifest names" in refusal(packed, tmp_path / "room").detail


def test_a_second_member_of_one_name_is_refused(packed: Path, tmp_path: Path) -> None:
    whole = packed.read_bytes()
    start = whole.index(member_header("tokenizer/vocab.json", 2))
    member = whole[start : start + 2 * BLOCK_BYTES]
    packed.write_bytes(whole[:start] + member + member + bytes(2 * BLOCK_BYTES))
    assert "more than its manifest names" in refusal(packed, tmp_path / "room").detail


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"5", b"6", b"g", b"x", b"L", b"S", b"\0"])
def test_links_devices_and_extensions_are_refused(packed: Path, tmp_path: Path, kind: bytes) -> None:
    whole = packed.read_bytes()
    start = whole.index(member_header("model_index.json", 2))
    header = bytearray(whole[start : start + BLOCK_BYTES])
    header[156:157] = kind
    header[157:161] = b"/etc"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    tarfile.TarInfo.frombuf(bytes(header), "utf-8", "strict")  # a tar reader finds nothing wrong with it
    packed.write_bytes(whole[:start] + header + whole[start + BLOCK_BYTES :])
    assert "model_index.json must come next" in refusal(packed, tmp_path / "room").detail


@pytest.mark.parametrize("path", ["../out", "/out", "a/../../out", ".hidden"])
def test_a_path_that_leads_out_is_refused_though_all_digests_agree(packed: Path, tmp_path: Path, path: str) -> None:
    content = b"out"
    table = {path: BundleFile(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))}
    manifest = msgspec.json.encode(Manifest(name="bad", version="1", licence="none", training_data="none", files=table))
    described = Archive(digest=bundle_digest(table), manifest_sha256=hashlib.sha256(manifest).hexdigest())
    members = {ARCHIVE_NAME: msgspec.json.encode(described), MANIFEST_NAME: manifest, path: content}
    data = b"".join(member_header(name, len(body)) + body + bytes(-len(body) % 512) for name, body in members.items())
    packed.write_bytes(data + bytes(2 * BLOCK_BYTES))
    assert "names the file" in refusal(packed, tmp_path / "room").detail
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "room").exists(), "the manifest is judged before anything is written"


def test_other_files_are_refused_by_name_of_what_is_allowed(make_bundle: MakeBundle, tmp_path: Path) -> None:
    by_hand = io.BytesIO()
    with tarfile.open(fileobj=by_hand, mode="w") as tar:
        tar.add(make_bundle(), arcname="small")
    for content in (by_hand.getvalue(), b"\x1f\x8b" + bytes(2000), b"PK" + bytes(2000), bytes(10_240)):
        (tmp_path / "archive").write_bytes(content)
        assert "as `halfdrop models export` writes it" in refusal(tmp_path / "archive", tmp_path / "room").detail


def test_another_way_to_write_the_same_is_refused(packed: Path, tmp_path: Path) -> None:
    whole = packed.read_bytes()
    described = whole[BLOCK_BYTES : 2 * BLOCK_BYTES].rstrip(b"\0")
    spaced = described.replace(b":", b": ")
    assert json.loads(spaced) == json.loads(described)
    packed.write_bytes(member_header(ARCHIVE_NAME, len(spaced)) + spaced.ljust(512, b"\0") + whole[2 * BLOCK_BYTES :])
    assert "is damaged" in refusal(packed, tmp_path / "room").detail


def test_a_manifest_that_claims_to_be_huge_is_not_read(packed: Path, tmp_path: Path) -> None:
    whole = packed.read_bytes()
    start = whole.index(b"manifest.json")
    packed.write_bytes(whole[:start] + member_header(MANIFEST_NAME, 2**33 - 1) + whole[start + BLOCK_BYTES :])
    assert "manifest.json must come next" in refusal(packed, tmp_path / "room").detail


def test_a_damaged_bundle_is_not_exported_and_the_old_archive_stays(make_bundle: MakeBundle, tmp_path: Path) -> None:
    source = make_bundle()
    bundle = open_bundle(source)
    (source / "tokenizer/vocab.json").write_bytes(b"{}")
    folder = tmp_path / "exports"
    folder.mkdir()
    (folder / "out.halfdrop.tar").write_text("old")
    with pytest.raises(PermanentError, match=r"tokenizer/vocab\.json is damaged or was changed"):
        pack_bundle(bundle, folder / "out.halfdrop.tar")
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("out.halfdrop.tar", "old")]
    with pytest.raises(PermanentError, match="name another"):
        pack_bundle(bundle, folder)


def test_a_refused_archive_leaves_nothing_in_a_store(packed: Path, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    data = bytearray(packed.read_bytes())
    data[-2 * BLOCK_BYTES - 600] ^= 1
    packed.write_bytes(data)
    with pytest.raises(PermanentError), store.incoming() as room:
        unpack_bundle(packed, room)
    assert [path.name for path in store.directory.iterdir()] == [".lock"]


def test_an_archive_comes_into_a_store(packed: Path, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    with store.incoming() as room:
        digest = unpack_bundle(packed, room)
        added = store.adopt(room)
    assert added.digest == digest
    assert read_manifest(added.directory) == added.manifest
    assert store.find("small") == added
