"""A store holds whole bundles or none, whoever dies meanwhile, and every reference means one of them or is refused."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from halfdrop.contracts.errors import InvalidInput, NotFound, PermanentError
from halfdrop.models import bundle as bundles_module
from halfdrop.models import staging
from halfdrop.models.bundle import MANIFEST_NAME, open_bundle, shipped_bundle_dir
from halfdrop.models.store import ALIASES_NAME, ModelStore

MakeBundle = Callable[..., Path]
OTHER = {"onnx/denoiser.onnx": b"other weights"}


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def visible(store: ModelStore) -> list[str]:
    """Return what is in the store's folder beside its lock."""
    return sorted(path.name for path in store.directory.iterdir() if path.name != ".lock")


def flip(file: Path, place: int = 0) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)


def test_a_store_that_was_never_written_has_the_shipped_bundles_and_is_not_made_by_looking(store: ModelStore) -> None:
    found = store.bundles()
    assert [bundle.directory for bundle in found] == bundles_module.shipped_bundle_dirs()
    assert all(bundle.is_shipped for bundle in found)
    assert store.find("house").directory == shipped_bundle_dir()
    assert store.aliases() == {}
    assert store.damaged() == {}
    assert not store.directory.exists()


def test_a_bundle_comes_in_whole_under_its_digest(store: ModelStore, make_bundle: MakeBundle) -> None:
    source = make_bundle(kind="checkpoint")
    told: list[tuple[str, int, int]] = []
    added = store.add(source, on_progress=lambda *progress: told.append(progress))
    assert added.directory == store.directory / added.digest
    assert not added.is_shipped
    assert added.manifest.kind == "checkpoint"
    assert open_bundle(added.directory) == added
    assert visible(store) == [added.digest]
    assert (added.directory / MANIFEST_NAME).read_bytes() == (source / MANIFEST_NAME).read_bytes()
    weights = sum(path.stat().st_size for path in source.rglob("*") if path.is_file() and path.name != MANIFEST_NAME)
    assert [("copying", weights, weights), ("checking", weights, weights)] == [
        max(step for step in told if step[0] == what) for what in ("copying", "checking")
    ]
    assert [bundle.name for bundle in store.bundles() if not bundle.is_shipped] == ["small"]


def test_the_same_bundle_twice_is_no_error_and_a_damaged_one_is_mended(
    store: ModelStore, make_bundle: MakeBundle
) -> None:
    source = make_bundle()
    added = store.add(source)
    inode = (added.directory / MANIFEST_NAME).stat().st_ino
    assert store.add(source) == added
    assert (added.directory / MANIFEST_NAME).stat().st_ino == inode, "it was there and whole: nothing to replace"
    flip(added.directory / "onnx/denoiser.onnx")
    with pytest.raises(PermanentError, match=r"onnx/denoiser\.onnx"):
        open_bundle(added.directory)
    assert store.add(source) == added
    assert open_bundle(added.directory) == added
    assert visible(store) == [added.digest]


def test_a_shipped_bundle_is_not_copied(store: ModelStore) -> None:
    assert store.add(shipped_bundle_dir()).directory == shipped_bundle_dir()
    assert visible(store) == []


def test_every_form_of_a_reference_finds_its_bundle(store: ModelStore, make_bundle: MakeBundle) -> None:
    added = store.add(make_bundle())
    store.set_alias("small@stable", added.digest)
    for reference in ("small", "small-1", added.digest, added.digest[:8], f"small:{added.digest}", "small@stable"):
        assert store.find(reference) == added, reference
    for reference in ("", "smal", "small-2", added.digest[:7], "small@canary", f"house:{added.digest}", "../small"):
        with pytest.raises(NotFound, match=rf"there are: house-.*small-1 \({added.digest[:12]}\)"):
            store.find(reference)


def test_a_reference_to_two_bundles_is_refused_with_both(store: ModelStore, make_bundle: MakeBundle) -> None:
    first, second = store.add(make_bundle()), store.add(make_bundle(files=OTHER))
    with pytest.raises(NotFound) as caught:
        store.find("small-1")
    assert first.digest[:12] in caught.value.detail
    assert second.digest[:12] in caught.value.detail
    assert store.find(second.digest[:12]) == second


def test_a_name_that_looks_like_a_digest_means_the_name(store: ModelStore, make_bundle: MakeBundle) -> None:
    first = store.add(make_bundle())
    named = store.add(make_bundle(first.digest[:10], files=OTHER))
    assert store.find(first.digest[:10]) == named
    assert store.find(first.digest[:12]) == first


@pytest.mark.parametrize("damage", ["changed", "missing", "extra", "no manifest"])
def test_a_bundle_that_is_not_whole_does_not_come_in(store: ModelStore, make_bundle: MakeBundle, damage: str) -> None:
    source = make_bundle()
    weights = source / "onnx/denoiser.onnx"
    if damage == "changed":
        flip(weights)
    elif damage == "missing":
        weights.unlink()
    elif damage == "extra":
        (source / "run.py").write_text("print()")
    else:
        (source / MANIFEST_NAME).unlink()
    named = {"extra": "run.py", "no manifest": MANIFEST_NAME}.get(damage, "onnx/denoiser.onnx")
    with pytest.raises(PermanentError, match=rf"{source}: .*{named}") as caught:
        store.add(source)
    assert caught.value.code == "bad-bundle"
    assert not store.directory.exists() or visible(store) == []


@pytest.mark.parametrize("linked", ["onnx/denoiser.onnx", "onnx", MANIFEST_NAME])
def test_links_are_not_followed(store: ModelStore, make_bundle: MakeBundle, tmp_path: Path, linked: str) -> None:
    source = make_bundle()
    (source / linked).rename(tmp_path / "elsewhere")
    (source / linked).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermanentError, match=r"link|missing") as caught:
        store.add(source)
    assert caught.value.code == "bad-bundle"
    assert not store.directory.exists() or visible(store) == []


@pytest.mark.parametrize(
    "path",
    [
        "../out",
        "/out",
        "a/../../out",
        "a//b",
        "",
        ".",
        "a/",
        ".hidden",
        "a/.git/b",
        "a\\b",
        "a\nb",
        "\u202eb",
        "x" * 101,
        MANIFEST_NAME,
    ],
)
def test_paths_that_no_bundle_may_have_are_refused(store: ModelStore, make_bundle: MakeBundle, path: str) -> None:
    source = make_bundle()
    manifest = json.loads((source / MANIFEST_NAME).read_bytes())
    manifest["files"][path] = {"sha256": "0" * 64, "bytes": 1}
    (source / MANIFEST_NAME).write_text(json.dumps(manifest))
    with pytest.raises(PermanentError, match="names the file") as caught:
        store.add(source)
    assert caught.value.code == "bad-bundle"


def test_a_file_that_is_a_folder_to_another_is_refused(store: ModelStore, make_bundle: MakeBundle) -> None:
    source = make_bundle()
    manifest = json.loads((source / MANIFEST_NAME).read_bytes())
    manifest["files"]["onnx"] = {"sha256": "0" * 64, "bytes": 1}
    (source / MANIFEST_NAME).write_text(json.dumps(manifest))
    with pytest.raises(PermanentError, match="names the file 'onnx'"):
        store.add(source)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"name": "../x"}, "name"),
        ({"name": "a@b"}, "name"),
        ({"name": "\x1b[2J"}, "name"),
        ({"version": ""}, "version"),
        ({"licence": ""}, "licence"),
        ({"kind": "pickle"}, "kind"),
        ({"files": {"a": {"sha256": "0" * 63, "bytes": 1}}}, "sha256"),
        ({"files": {"a": {"sha256": "0" * 64, "bytes": -1}}}, "bytes"),
        ({"files": {"a": {"sha256": "0" * 64, "bytes": 2**40}}}, "bytes"),
        ({"files": {f"a{number}": {"sha256": "0" * 64, "bytes": 1} for number in range(1001)}}, "got 1001 files"),
        ({"files": {f"a{number}": {"sha256": "0" * 64, "bytes": 2**35} for number in range(3)}}, "got 3 files of 103"),
    ],
)
def test_a_manifest_beyond_its_limits_is_refused(
    store: ModelStore, make_bundle: MakeBundle, members: dict[str, object], words: str
) -> None:
    source = make_bundle()
    manifest = json.loads((source / MANIFEST_NAME).read_bytes())
    (source / MANIFEST_NAME).write_text(json.dumps(manifest | members))
    with pytest.raises(PermanentError, match=words) as caught:
        store.add(source)
    assert caught.value.code == "bad-bundle"


def test_a_manifest_and_a_folder_without_end_are_not_read_to_the_end(
    store: ModelStore, make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_bundle()
    monkeypatch.setattr(bundles_module, "MANIFEST_MAX_BYTES", 100)
    with pytest.raises(PermanentError, match="too long"):
        store.add(source)
    monkeypatch.undo()
    monkeypatch.setattr(bundles_module, "FILES_MAX", 3)
    for number in range(4):
        (source / f"more-{number}").touch()
    with pytest.raises(PermanentError, match="more than 3 files"):
        store.add(source)


def test_a_full_disk_is_found_before_anything_is_copied(
    store: ModelStore, make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "FREE_MARGIN_BYTES", 2**62)
    with pytest.raises(PermanentError, match="make room, or choose another folder") as caught:
        store.add(make_bundle())
    assert caught.value.code == "disk-full"
    assert visible(store) == []


def test_all_is_on_the_disk_before_it_is_shown(
    store: ModelStore, make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[Path] = []
    real_flush = staging.flush

    def flush(path: Path) -> None:
        assert visible(store)[0].startswith(".incoming-")
        real_flush(path)
        flushed.append(path)

    monkeypatch.setattr(staging, "flush", flush)
    added = store.add(make_bundle())
    shown = {path.relative_to(added.directory) for path in (added.directory, *added.directory.rglob("*"))}
    assert shown == {path.relative_to(flushed[-1]) for path in flushed}


KILLED_WHILE = """
import os, signal, sys
from pathlib import Path
from halfdrop.models.store import ModelStore

def die(what, done, total):
    if what == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

ModelStore(Path(sys.argv[1])).add(Path(sys.argv[2]), on_progress=die)
"""


@pytest.mark.parametrize("what", ["copying", "checking"])
def test_a_kill_leaves_nothing_half_and_its_remains_go_with_the_next_bundle(
    store: ModelStore, make_bundle: MakeBundle, what: str
) -> None:
    source = make_bundle()
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE, store.directory, source, what], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [name.startswith(".incoming-") for name in visible(store)] == [True]
    assert all(bundle.is_shipped for bundle in store.bundles())
    assert store.damaged() == {}
    added = store.add(make_bundle(files=OTHER))
    assert visible(store) == [added.digest]


def test_what_another_still_works_on_is_left_alone(store: ModelStore, make_bundle: MakeBundle) -> None:
    with store.incoming() as room:
        room.mkdir()
        (room / "half").write_text("…")
        added = store.add(make_bundle())
        assert (room / "half").exists()
    assert visible(store) == [added.digest]


def test_two_at_once_bring_the_same_bundle(store: ModelStore, make_bundle: MakeBundle) -> None:
    source = make_bundle()
    code = "import sys; from pathlib import Path; from halfdrop.models.store import ModelStore\n"
    code += "print(ModelStore(Path(sys.argv[1])).add(Path(sys.argv[2])).digest)"
    command = [sys.executable, "-c", code, str(store.directory), str(source)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    digests = {process.communicate(timeout=30)[0].strip() for process in running}
    assert [process.returncode for process in running] == [0, 0]
    assert visible(store) == [*digests]


def test_damaged_bundles_are_told_apart_and_go_by_their_digest(store: ModelStore, make_bundle: MakeBundle) -> None:
    cut, kept = store.add(make_bundle()), store.add(make_bundle(files=OTHER))
    (cut.directory / "onnx/denoiser.onnx").write_bytes(b"short")
    assert [bundle for bundle in store.bundles() if not bundle.is_shipped] == [kept]
    assert "got 5 bytes" in store.damaged()[cut.digest].detail
    with pytest.raises(PermanentError, match=r"onnx/denoiser\.onnx"):
        store.find(cut.digest[:12])
    store.remove(cut.digest)
    assert visible(store) == [kept.digest]


def test_a_folder_with_another_bundles_name_is_damaged(store: ModelStore, make_bundle: MakeBundle) -> None:
    added = store.add(make_bundle())
    added.directory.rename(store.directory / ("0" * 64))
    assert "its manifest is that of" in store.damaged()["0" * 64].detail
    assert all(bundle.is_shipped for bundle in store.bundles())


def test_removing_refuses_what_is_shipped_or_has_a_name(store: ModelStore, make_bundle: MakeBundle) -> None:
    added = store.add(make_bundle())
    store.set_alias("small@stable", "small")
    store.set_alias("house@stable", "house")
    with pytest.raises(PermanentError, match="came with this installation"):
        store.remove("house", is_with_aliases=True)
    with pytest.raises(PermanentError, match="small@stable") as caught:
        store.remove("small")
    assert caught.value.code == "has-aliases"
    assert store.find("small") == added
    assert store.remove("small", is_with_aliases=True) == added
    assert store.aliases() == {"house@stable": store.find("house").digest}
    assert visible(store) == [ALIASES_NAME]
    with pytest.raises(NotFound):
        store.remove("small")


def test_an_alias_moves_and_is_dropped(store: ModelStore, make_bundle: MakeBundle) -> None:
    first, second = store.add(make_bundle()), store.add(make_bundle(files=OTHER))
    store.set_alias("small@stable", first.digest)
    store.set_alias("small@stable", second.digest)
    store.set_alias("small@canary", "small@stable")
    assert store.find("small@canary") == second
    store.drop_alias("small@stable")
    assert store.aliases() == {"small@canary": second.digest}
    with pytest.raises(NotFound, match="small@canary"):
        store.drop_alias("small@stable")


@pytest.mark.parametrize(
    "alias", ["house", "@stable", "house@", "House@stable", "a@b@c", "a/b@c", "a@" + "b" * 33, "a@b\n"]
)
def test_aliases_have_one_form(store: ModelStore, alias: str) -> None:
    with pytest.raises(InvalidInput, match="NAME@LABEL"):
        store.set_alias(alias, "house")
    assert not store.directory.exists()


def test_an_alias_of_what_is_gone_says_so(store: ModelStore) -> None:
    store.directory.mkdir()
    (store.directory / ALIASES_NAME).write_text(json.dumps({"old@stable": "f" * 64}))
    with pytest.raises(NotFound, match=r"'old@stable' \(which is ffffffffffff\)"):
        store.find("old@stable")


@pytest.mark.parametrize("content", ["", "[]", '{"a@b": "short"}', '{"a": "' + "f" * 64 + '"}', "\udcff"])
def test_aliases_that_were_damaged_are_an_error_and_not_forgotten(store: ModelStore, content: str) -> None:
    store.directory.mkdir()
    (store.directory / ALIASES_NAME).write_bytes(content.encode(errors="surrogateescape"))
    for attempt in (store.aliases, lambda: store.set_alias("house@stable", "house")):
        with pytest.raises(PermanentError, match="mend or remove") as caught:
            attempt()
        assert caught.value.code == "bad-aliases"
    assert (store.directory / ALIASES_NAME).read_bytes() == content.encode(errors="surrogateescape")


def test_a_bundle_of_the_store_can_be_read_by_others(store: ModelStore, make_bundle: MakeBundle) -> None:
    before = os.umask(0o022)
    try:
        added = store.add(make_bundle())
    finally:
        os.umask(before)
    modes = {oct(path.stat().st_mode & 0o777) for path in (added.directory, *added.directory.rglob("*"))}
    assert modes == {"0o755", "0o644"}
