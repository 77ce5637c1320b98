"""Model bundles: a directory of weights with a manifest that names every file by its digest.

A bundle's digest is a digest over its file table, so it names exactly these weights; it enters every pattern's key.
Opening a bundle reads and checks every file: a pattern must never be drawn by half-copied weights. A manifest comes
from whoever made the bundle, so its names, paths and sizes are checked before anything is done with them.
"""

import hashlib
import stat
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import msgspec

from halfdrop.contracts.errors import PermanentError

MANIFEST_NAME = "manifest.json"
SHIPPED_BUNDLE = "house-5"
SHIPPED_REFINER = "house-render-1"
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"

MANIFEST_MAX_BYTES = 4 * 2**20
"""A manifest of a thousand files with all its gates takes a tenth of this."""

FILES_MAX = 1_000
"""A large diffusers checkpoint has about fifty files, sharded weights included."""

BUNDLE_MAX_BYTES = 64 * 2**30
"""The largest open text-to-image models take half of this; more is a mistake or an attack."""

PATH_MAX_BYTES = 100
"""What a plain tar header holds, so that every bundle fits an archive."""

_CHUNK_BYTES = 1024 * 1024

Kind = Literal["house-preview", "house-render", "checkpoint", "checkpoint-edge", "lora"]
"""What draws with a bundle: the house model at the edge; its refiner on the hub; a user's diffusers checkpoint on the
hub; the same, quantised, at an edge; a checkpoint to which it is added."""

OnProgress = Callable[[str, int, int], None]
"""Told (what is being done, bytes done, bytes in all); may raise to stop the work."""


class BundleFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a bundle."""

    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    bytes: Annotated[int, msgspec.Meta(ge=0, le=BUNDLE_MAX_BYTES)]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What `manifest.json` must say. It says more (training, gates, speed): that is for people, see `read_facts`."""

    name: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
    version: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
    licence: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    training_data: str
    """Where the training data came from, in a sentence or two."""

    files: dict[str, BundleFile]
    """Path inside the bundle, with forward slashes, to its digest and size; everything but the manifest itself."""

    kind: Kind = "house-preview"


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle: from `open_bundle` with its files checked, from `peek_bundle` with their names and sizes only."""

    name: str
    version: str
    digest: str
    """64 hexadecimal digits."""

    directory: Path
    manifest: Manifest

    @property
    def is_shipped(self) -> bool:
        """True if the bundle came with this package."""
        return self.directory.absolute().parent == shipped_bundle_dir().parent

    @property
    def size_bytes(self) -> int:
        """Bytes of all files but the manifest."""
        return sum(file.bytes for file in self.manifest.files.values())

    def answers_to(self, model: str) -> bool:
        """True if `model`, as a client writes it, means this bundle: its name, name-version, digest or name:digest."""
        name, _, digest = model.rpartition(":")
        if name and name != self.name:
            return False
        return digest == self.digest or (not name and model in (self.name, f"{self.name}-{self.version}"))


def shipped_bundle_dir() -> Path:
    """Return the directory of the house model that comes with this package."""
    return Path(__file__).parent / "weights" / SHIPPED_BUNDLE


def shipped_refiner_dir() -> Path:
    """Return the directory of the house model's refiner; it may be missing where only previews are drawn."""
    return Path(__file__).parent / "weights" / SHIPPED_REFINER


def shipped_bundle_dirs() -> list[Path]:
    """Return the directories of all bundles that come with this package."""
    return sorted(path.parent for path in shipped_bundle_dir().parent.glob(f"*/{MANIFEST_NAME}"))


def open_bundle(directory: Path, *, on_progress: OnProgress | None = None) -> Bundle:
    """Return the bundle in `directory` after checking every file against the manifest.

    on_progress is told ("checking", bytes, of bytes). Raises PermanentError(bad-bundle) when the manifest is missing
    or malformed, when a file is missing, differs or lies outside the directory, when a file is there that the manifest
    does not name, and beyond FILES_MAX and BUNDLE_MAX_BYTES.
    """
    bundle = peek_bundle(directory)
    count = _count_bytes("checking", bundle.size_bytes, on_progress)
    for path, file in sorted(bundle.manifest.files.items()):
        got = _sha256(directory / path, count)
        if got != file.sha256:
            detail = f"{path} is damaged or was changed: got sha256 {got}; allowed: {file.sha256}"
            raise bad_bundle(directory, f"{detail}; fetch the bundle again")
    return bundle


def peek_bundle(directory: Path) -> Bundle:
    """Return the bundle in `directory` after looking at its manifest and its files' names and sizes, not inside them.

    Quick for any size. Raises PermanentError(bad-bundle) as `open_bundle` does.
    """
    manifest = read_manifest(directory)
    actual = _list_files(directory)
    for path in sorted(manifest.files.keys() | actual.keys()):
        if path not in actual:
            raise bad_bundle(directory, f"{path} is missing; fetch the bundle again")
        if path not in manifest.files:
            raise bad_bundle(directory, f"{path} is not in the manifest; remove it or make the manifest again")
        got_bytes, allowed_bytes = actual[path].stat().st_size, manifest.files[path].bytes
        if got_bytes != allowed_bytes:
            detail = f"{path}: got {got_bytes} bytes; allowed: {allowed_bytes}; fetch the bundle again"
            raise bad_bundle(directory, detail)
    digest = bundle_digest(manifest.files)
    return Bundle(name=manifest.name, version=manifest.version, digest=digest, directory=directory, manifest=manifest)


def read_manifest(directory: Path) -> Manifest:
    """Return the manifest in `directory`. Raises PermanentError(bad-bundle) as `decode_manifest` does."""
    return decode_manifest(_read_manifest_bytes(directory), source=directory)


def read_facts(directory: Path) -> dict[str, Any]:
    """Return all that the manifest in `directory` says, unchecked and free in form: to be shown to people."""
    facts: dict[str, Any] = msgspec.json.decode(_read_manifest_bytes(directory), type=dict[str, Any])
    return facts


def decode_manifest(data: bytes, *, source: Path) -> Manifest:
    """Return the manifest in `data`. Raises PermanentError(bad-bundle), which names `source`, if it is malformed,
    names a path that no bundle may have, or more or larger files than a bundle may have."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise bad_bundle(source, f"{MANIFEST_NAME}: {error}") from error
    _check_paths(source, list(manifest.files))
    total_bytes = sum(file.bytes for file in manifest.files.values())
    if len(manifest.files) > FILES_MAX or total_bytes > BUNDLE_MAX_BYTES:
        got = f"{len(manifest.files)} files of {total_bytes} bytes"
        raise bad_bundle(source, f"got {got}; allowed: {FILES_MAX} files of {BUNDLE_MAX_BYTES} bytes in all")
    return manifest


def file_table(directory: Path, *, on_progress: OnProgress | None = None) -> dict[str, BundleFile]:
    """Return path, digest and size of every file below `directory` but the manifest, hidden files and hidden folders.

    on_progress is told ("hashing", bytes, of bytes). Raises PermanentError(bad-bundle) beyond FILES_MAX files.
    """
    files = _list_files(directory)
    sizes = {path: file.stat().st_size for path, file in files.items()}
    count = _count_bytes("hashing", sum(sizes.values()), on_progress)
    return {path: BundleFile(sha256=_sha256(file, count), bytes=sizes[path]) for path, file in files.items()}


def bundle_digest(files: Mapping[str, BundleFile]) -> str:
    """Return the SHA-256, in hexadecimal, over the file table as JSON with sorted members and no spaces."""
    return hashlib.sha256(msgspec.json.encode(dict(files), order="sorted")).hexdigest()


def plain_file(directory: Path, path: str) -> Path:
    """Return a bundle's file if it is a plain file in plain folders. Raises PermanentError(bad-bundle) for a link.

    Who copies a bundle from elsewhere asks this of every file: a link may lead anywhere on the machine.
    """
    for place in reversed(PurePosixPath(path).parents[:-1]):
        if not stat.S_ISDIR((directory / place).lstat().st_mode):
            raise bad_bundle(directory, f"{place} is a link; allowed: folders")
    file = directory / path
    if not stat.S_ISREG(file.lstat().st_mode):
        raise bad_bundle(directory, f"{path} is a link or a device; allowed: plain files")
    return file


def bad_bundle(source: Path, detail: str) -> PermanentError:
    """Return the error for a bundle that cannot be trusted."""
    return PermanentError(f"model bundle {source}: {detail}", code="bad-bundle")


def _read_manifest_bytes(directory: Path) -> bytes:
    try:
        with (directory / MANIFEST_NAME).open("rb") as stream:
            data = stream.read(MANIFEST_MAX_BYTES + 1)
    except OSError as error:
        raise bad_bundle(
            directory, f"{MANIFEST_NAME} cannot be read ({error.strerror}); name a bundle's directory"
        ) from error
    if len(data) > MANIFEST_MAX_BYTES:
        raise bad_bundle(directory, f"{MANIFEST_NAME} is too long; allowed: {MANIFEST_MAX_BYTES} bytes")
    return data


def _check_paths(source: Path, paths: list[str]) -> None:
    folders = {str(folder) for path in paths for folder in PurePosixPath(path).parents}
    for path in paths:
        parts = path.split("/")
        is_inside = all(part and not part.startswith(".") for part in parts) and path != MANIFEST_NAME
        is_readable = path.isprintable() and "\\" not in path and len(path.encode()) <= PATH_MAX_BYTES
        if not is_inside or not is_readable or path in folders:
            allowed = f"relative paths of up to {PATH_MAX_BYTES} printable bytes, nothing hidden, no .."
            raise bad_bundle(source, f"{MANIFEST_NAME} names the file {path[:80]!r}; allowed: {allowed}")


def _list_files(directory: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for file in directory.rglob("*"):
        place = file.relative_to(directory)
        is_hidden = any(part.startswith(".") for part in place.parts)
        if not is_hidden and place.as_posix() != MANIFEST_NAME and file.is_file():
            files[place.as_posix()] = file
            if len(files) > FILES_MAX:
                raise bad_bundle(directory, f"more than {FILES_MAX} files; allowed: a model's own files")
    return dict(sorted(files.items()))


def _count_bytes(what: str, total_bytes: int, on_progress: OnProgress | None) -> Callable[[int], None]:
    """Return a function that adds up bytes and tells the sum."""
    done_bytes = 0

    def count(more_bytes: int) -> None:
        nonlocal done_bytes
        done_bytes += more_bytes
        if on_progress is not None:
            on_progress(what, done_bytes, total_bytes)

    return count


def _sha256(file: Path, count: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            count(len(chunk))
    return digest.hexdigest()
