"""A bundle as one file: `.halfdrop.tar`, a plain tar that any tar can unpack, and of which there is only one form.

Members: `.halfdrop-archive.json` (the digests of bundle and manifest), `manifest.json`, then the bundle's files in
order of their paths; then two empty blocks, and nothing after them. Times and owners are zero, so equal bundles make
equal archives. Weights do not compress, so nothing is compressed.

Reading is one pass in constant memory and takes nothing on trust: every header must be, byte for byte, the one that
writing would have put there. So a link, a device, a path that leads out, a name twice, a byte flipped anywhere, a cut
or an appended end are all the same: not what was expected next.
"""

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from halfdrop.contracts.errors import PermanentError
from halfdrop.models.bundle import (
    MANIFEST_MAX_BYTES,
    MANIFEST_NAME,
    Bundle,
    BundleFile,
    Manifest,
    OnProgress,
    bad_bundle,
    bundle_digest,
    decode_manifest,
    plain_file,
)
from halfdrop.models.staging import flush, read_checked

ARCHIVE_SUFFIX = ".halfdrop.tar"
ARCHIVE_NAME = ".halfdrop-archive.json"
"""Hidden, so that an archive unpacked by hand is a bundle's directory as it should be."""

ARCHIVE_MAX_BYTES = 4_096
BLOCK_BYTES = 512
_END = bytes(2 * BLOCK_BYTES)
_CHUNK_BYTES = 1024 * 1024
_OCTAL_MAX_BYTES = 8**11
"""From here a size no longer fits eleven octal digits, and is written in base 256, which all current tars read."""


class Archive(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first member: what the archive holds."""

    format: Literal["halfdrop-archive.v1"] = "halfdrop-archive.v1"
    digest: str
    """The bundle's."""

    manifest_sha256: str
    """The bundle's digest is over its weights; the manifest also says what they are and whose."""


def pack_bundle(bundle: Bundle, archive: Path, *, on_progress: OnProgress | None = None) -> int:
    """Write a bundle to the file `archive`, replaced in one step when all is written; return the bytes written.

    on_progress is told ("packing", bytes, of bytes). Raises PermanentError(bad-bundle) when a file is not what the
    manifest says, and PermanentError(bad-archive) if `archive` is there and is something other than a file.
    """
    if archive.exists() and not archive.is_file():
        raise bad_archive(archive, "is there, and is no file; name another")
    manifest = plain_file(bundle.directory, MANIFEST_NAME).read_bytes()
    files = decode_manifest(manifest, source=bundle.directory).files
    if bundle_digest(files) != bundle.digest:
        raise bad_bundle(bundle.directory, "its manifest was changed meanwhile; export it again")
    described = Archive(digest=bundle.digest, manifest_sha256=hashlib.sha256(manifest).hexdigest())
    done_bytes = 0
    with _replacing(archive) as stream:
        for name, content in ((ARCHIVE_NAME, msgspec.json.encode(described)), (MANIFEST_NAME, manifest)):
            stream.write(member_header(name, len(content)) + content + _padding(len(content)))
        for path, file in sorted(files.items()):
            stream.write(member_header(path, file.bytes))
            for chunk in read_checked(bundle.directory, path, file):
                stream.write(chunk)
                done_bytes += len(chunk)
                if on_progress is not None:
                    on_progress("packing", done_bytes, bundle.size_bytes)
            stream.write(_padding(file.bytes))
        stream.write(_END)
        return stream.tell()


def unpack_bundle(archive: Path, target: Path, *, on_progress: OnProgress | None = None) -> str:
    """Write the bundle in `archive` to the new folder `target` and return its digest.

    Every file was checked when this returns; when it raises, `target` may hold a part, for the caller to remove.
    on_progress is told ("unpacking", bytes, of bytes). Raises PermanentError(bad-archive) for anything but a whole
    archive, and PermanentError(bad-bundle) for a manifest that no bundle may have.
    """
    with archive.open("rb") as stream:
        reading = _Reading(archive, stream)
        digest, manifest_bytes, manifest = reading.begin()
        target.mkdir(parents=True)
        (target / MANIFEST_NAME).write_bytes(manifest_bytes)
        done_bytes, total_bytes = 0, sum(file.bytes for file in manifest.files.values())
        for path, file in sorted(manifest.files.items()):
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            with (target / path).open("xb") as writing:
                for chunk in reading.member(path, file):
                    writing.write(chunk)
                    done_bytes += len(chunk)
                    if on_progress is not None:
                        on_progress("unpacking", done_bytes, total_bytes)
        reading.end()
    return digest


def read_archive_manifest(archive: Path) -> Manifest:
    """Return the manifest in `archive`, whose files were not read yet. Raises as `unpack_bundle` does."""
    with archive.open("rb") as stream:
        return _Reading(archive, stream).begin()[2]


def member_header(path: str, size_bytes: int) -> bytes:
    """Return the one header, 512 bytes, that a member of this path and size may have (POSIX ustar)."""
    is_small = size_bytes < _OCTAL_MAX_BYTES
    size = b"%011o\0" % size_bytes if is_small else b"\x80" + size_bytes.to_bytes(11, "big")
    name = path.encode().ljust(100, b"\0")
    assert len(name) == 100, path  # decode_manifest saw to it
    before = name + b"0000644\0" + b"0000000\0" * 2 + size + b"%011o\0" % 0
    after = b"0" + bytes(100) + b"ustar\x0000"
    block = (before + b" " * 8 + after).ljust(BLOCK_BYTES, b"\0")
    return before + b"%06o\0 " % sum(block) + block[len(before) + 8 :]


def bad_archive(archive: Path, detail: str) -> PermanentError:
    """Return the error for a file that is not a whole archive."""
    return PermanentError(f"model archive {archive}: {detail}", code="bad-archive")


class _Reading:
    """One pass over an archive; each method reads on from where the last one ended."""

    def __init__(self, archive: Path, stream: BinaryIO) -> None:
        self._archive = archive
        self._stream = stream

    def begin(self) -> tuple[str, bytes, Manifest]:
        """Read the first two members; return the bundle's digest, and its manifest as bytes and decoded."""
        described = self._small_member(ARCHIVE_NAME, ARCHIVE_MAX_BYTES)
        try:
            archive = msgspec.json.decode(described, type=Archive)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise bad_archive(self._archive, f"{ARCHIVE_NAME}: {error}") from error
        manifest_bytes = self._small_member(MANIFEST_NAME, MANIFEST_MAX_BYTES)
        is_whole = hashlib.sha256(manifest_bytes).hexdigest() == archive.manifest_sha256
        if not is_whole or described != msgspec.json.encode(archive):
            raise self._damaged(MANIFEST_NAME)
        manifest = decode_manifest(manifest_bytes, source=self._archive)
        digest = bundle_digest(manifest.files)
        if digest != archive.digest:
            raise bad_archive(self._archive, f"got the manifest of {digest}; allowed: that of {archive.digest}")
        return digest, manifest_bytes, manifest

    def member(self, path: str, file: BundleFile) -> Iterator[bytes]:
        """Yield the content of the file that must come next; checks it when it has been read to its end."""
        if self._read(BLOCK_BYTES) != member_header(path, file.bytes):
            raise self._unexpected(path)
        digest, left_bytes = hashlib.sha256(), file.bytes
        while left_bytes:
            chunk = self._read(min(left_bytes, _CHUNK_BYTES))
            left_bytes -= len(chunk)
            digest.update(chunk)
            yield chunk
        if self._read(-file.bytes % BLOCK_BYTES).strip(b"\0") or digest.hexdigest() != file.sha256:
            raise self._damaged(path)

    def end(self) -> None:
        """Check that nothing follows."""
        if self._read(len(_END)) != _END or self._stream.read(1):
            raise bad_archive(self._archive, "has more than its manifest names; fetch or export it again")

    def _small_member(self, path: str, limit_bytes: int) -> bytes:
        header = self._read(BLOCK_BYTES)
        digits = header[124:135]
        size_bytes = int(digits, 8) if digits.isdigit() and not set(digits) & set(b"89") else limit_bytes + 1
        if size_bytes > limit_bytes or header != member_header(path, size_bytes):
            raise self._unexpected(path)
        content = self._read(size_bytes)
        if self._read(-size_bytes % BLOCK_BYTES).strip(b"\0"):
            raise self._damaged(path)
        return content

    def _read(self, count_bytes: int) -> bytes:
        data = self._stream.read(count_bytes)
        if len(data) != count_bytes:
            raise bad_archive(self._archive, "ends too soon; fetch or export it again")
        return data

    def _unexpected(self, path: str) -> PermanentError:
        if path == ARCHIVE_NAME:
            allowed = f"a {ARCHIVE_SUFFIX} as `halfdrop models export` writes it, unchanged and uncompressed"
            return bad_archive(self._archive, f"is none; allowed: {allowed}")
        return bad_archive(self._archive, f"{path} must come next, and does not; fetch or export it again")

    def _damaged(self, path: str) -> PermanentError:
        return bad_archive(self._archive, f"{path} is damaged; fetch or export it again")


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of `path` when the block ends well, and is gone when it does not."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with fresh.open("xb") as stream:
            yield stream
        flush(fresh)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _padding(size_bytes: int) -> bytes:
    return bytes(-size_bytes % BLOCK_BYTES)
