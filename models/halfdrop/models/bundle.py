"""Model bundles: a directory of weights with a manifest that names every file by its digest.

A bundle's digest is a digest over its file table, so it names exactly these weights; it enters every pattern's key.
Opening a bundle reads and checks every file: a pattern must never be drawn by half-copied weights.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from halfdrop.contracts.errors import PermanentError

MANIFEST_NAME = "manifest.json"
SHIPPED_BUNDLE = "house-1"
_CHUNK_BYTES = 1024 * 1024


class BundleFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a bundle."""

    sha256: str
    bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What `manifest.json` must say. It says more (training, gates, speed): that is for people, and left alone here."""

    name: str
    version: str
    licence: str
    training_data: str
    """Where the training data came from, in a sentence or two."""

    files: dict[str, BundleFile]
    """Path inside the bundle, with forward slashes, to its digest and size; everything but the manifest itself."""


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle whose files were checked."""

    name: str
    version: str
    digest: str
    """64 hexadecimal digits."""

    directory: Path
    manifest: Manifest

    def answers_to(self, model: str) -> bool:
        """True if `model`, as a client writes it, means this bundle: its name, name-version, digest or name:digest."""
        name, _, digest = model.rpartition(":")
        if name and name != self.name:
            return False
        return digest == self.digest or (not name and model in (self.name, f"{self.name}-{self.version}"))


def shipped_bundle_dir() -> Path:
    """Return the directory of the house model that comes with this package."""
    return Path(__file__).parent / "weights" / SHIPPED_BUNDLE


def open_bundle(directory: Path) -> Bundle:
    """Return the bundle in `directory` after checking every file against the manifest.

    Raises PermanentError(bad-bundle) when the manifest is missing or malformed, when a file is missing, differs or
    lies outside the directory, and when a file is there that the manifest does not name.
    """
    manifest = _read_manifest(directory)
    actual = file_table(directory)
    for path in sorted(manifest.files.keys() | actual.keys()):
        if path not in actual:
            raise _bad_bundle(directory, f"{path} is missing; fetch the bundle again")
        if path not in manifest.files:
            raise _bad_bundle(directory, f"{path} is not in the manifest; remove it or make the manifest again")
        if actual[path] != manifest.files[path]:
            got, allowed = actual[path], manifest.files[path]
            detail = f"{path}: got {got.bytes} bytes, sha256 {got.sha256}; allowed: {allowed.bytes}, {allowed.sha256}"
            raise _bad_bundle(directory, detail)
    digest = bundle_digest(manifest.files)
    return Bundle(name=manifest.name, version=manifest.version, digest=digest, directory=directory, manifest=manifest)


def file_table(directory: Path) -> dict[str, BundleFile]:
    """Return path, digest and size of every file below `directory` but the manifest and hidden files."""
    table = {}
    for file in sorted(directory.rglob("*")):
        path = file.relative_to(directory).as_posix()
        if file.is_file() and path != MANIFEST_NAME and not file.name.startswith("."):
            table[path] = BundleFile(sha256=_sha256(file), bytes=file.stat().st_size)
    return table


def bundle_digest(files: Mapping[str, BundleFile]) -> str:
    """Return the SHA-256, in hexadecimal, over the file table as JSON with sorted members and no spaces."""
    return hashlib.sha256(msgspec.json.encode(dict(files), order="sorted")).hexdigest()


def _read_manifest(directory: Path) -> Manifest:
    try:
        return msgspec.json.decode((directory / MANIFEST_NAME).read_bytes(), type=Manifest)
    except OSError as error:
        raise _bad_bundle(directory, f"{MANIFEST_NAME} cannot be read ({error.strerror})") from error
    except msgspec.MsgspecError as error:
        raise _bad_bundle(directory, f"{MANIFEST_NAME}: {error}") from error


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _bad_bundle(directory: Path, detail: str) -> PermanentError:
    return PermanentError(f"model bundle {directory}: {detail}", code="bad-bundle")
