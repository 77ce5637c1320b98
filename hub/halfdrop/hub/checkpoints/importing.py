"""A user's checkpoint becomes a bundle: checked, copied, tried, measured, and only then put in its place."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp

import msgspec

from halfdrop.contracts.errors import PermanentError
from halfdrop.hub.checkpoints.layout import INDEX_NAME, Layout, check_layout
from halfdrop.models.bundle import MANIFEST_NAME, BundleFile, Manifest

OnProgress = Callable[[str, int, int], None]
"""Told (stage, done, total); may raise to stop, and nothing is left behind."""

TRAINING_DATA = "Brought by its user; what it was trained on is for the checkpoint's own card to say."
SPARE_BYTES = 64 * 2**20
"""Room that must stay free on the disk beside the copy."""

_CHUNK_BYTES = 2**20


def import_checkpoint(
    source: Path, bundle_dir: Path, *, name: str, version: str, licence: str, on_progress: OnProgress
) -> None:
    """Make the diffusers directory `source` a bundle in `bundle_dir`, which must not exist yet or be empty.

    Stages: "check", "copy" (bytes), "try" (denoising steps), "write". Raises PermanentError: bad-checkpoint or
    unsupported-checkpoint for what is wrong with it, no-room, bundle-exists. Whatever is raised, `bundle_dir` is left
    as it was. Importing reads no file that the layout does not name and runs no code of the checkpoint's.
    """
    on_progress("check", 0, 1)
    require_libraries()
    layout = check_layout(source)
    _check_networks(layout)
    on_progress("check", 1, 1)
    with building(bundle_dir) as staging:
        files = _copy(layout, staging, on_progress)
        copied = check_layout(staging)
        trial = _try(copied, on_progress)
        on_progress("write", 0, 1)
        manifest = msgspec.to_builtins(
            Manifest(
                name=name,
                version=version,
                licence=licence,
                training_data=TRAINING_DATA,
                files=files,
                kind="checkpoint",
            )
        )
        manifest |= {"family": layout.family.name, "pipeline": layout.family.pipeline, "scheduler": layout.scheduler,
                     "left_out": layout.left_out, "tried": trial}  # fmt: skip
        write_manifest(staging, manifest)
    on_progress("write", 1, 1)


def require_libraries(*more: str, extra: str = "hub") -> None:
    """Raise PermanentError(not-installed) unless what checkpoints are drawn with is there, and `more` of an extra."""
    missing = [name for name in ("torch", "diffusers", "transformers", *more) if find_spec(name) is None]
    if missing:
        detail = f'users\' checkpoints: {", ".join(missing)} not installed; needed: pip install "halfdrop[{extra}]"'
        raise PermanentError(detail, code="not-installed")


@contextmanager
def building(bundle_dir: Path) -> Iterator[Path]:
    """Give a hidden folder beside `bundle_dir`; it takes that place at the end, or vanishes with any exception.

    Raises PermanentError(bundle-exists) unless `bundle_dir` is absent or an empty directory.
    """
    if bundle_dir.exists() and (not bundle_dir.is_dir() or any(bundle_dir.iterdir())):
        raise PermanentError(f"{bundle_dir}: got something there already; allowed: a new name or an empty directory. "
                             "Choose another name or version.", code="bundle-exists")  # fmt: skip
    bundle_dir.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(mkdtemp(prefix=f".{bundle_dir.name}.", suffix=".building", dir=bundle_dir.parent))
    try:
        yield staging
        staging.chmod(0o755)
        staging.replace(bundle_dir)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def write_manifest(folder: Path, manifest: dict[str, object]) -> None:
    """Write manifest.json, indented for people; `manifest` holds at least what `Manifest` must say."""
    encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / MANIFEST_NAME).write_bytes(encoded + b"\n")


def _check_networks(layout: Layout) -> None:
    from halfdrop.hub.checkpoints.networks import check_networks  # noqa: PLC0415  imports torch: seconds

    check_networks(layout)


def _copy(layout: Layout, staging: Path, on_progress: OnProgress) -> dict[str, BundleFile]:
    """Copy the layout's files, hashing on the way, and return the bundle's file table."""
    total = sum(file.stat().st_size for file in layout.files.values())
    free = shutil.disk_usage(staging).free
    if free < total + SPARE_BYTES:
        raise PermanentError(f"{staging.parent}: got {free:,} bytes free; allowed: {total + SPARE_BYTES:,} for this "
                             "checkpoint. Make room, or import to another disk.", code="no-room")  # fmt: skip
    table, done = {}, 0
    on_progress("copy", done, total)
    for path, file in layout.files.items():
        target = staging / path
        target.parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        with file.open("rb") as stream, target.open("wb") as copy:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
                copy.write(chunk)
                size += len(chunk)
                on_progress("copy", done + size, total)
        table[path] = BundleFile(sha256=digest.hexdigest(), bytes=size)
        done += size
    index = msgspec.json.format(msgspec.json.encode(layout.index), indent=2) + b"\n"
    (staging / INDEX_NAME).write_bytes(index)
    table[INDEX_NAME] = BundleFile(sha256=hashlib.sha256(index).hexdigest(), bytes=len(index))
    return table


def _try(layout: Layout, on_progress: OnProgress) -> object:
    from halfdrop.hub.checkpoints.drawing import load_checkpoint  # noqa: PLC0415  imports torch: seconds
    from halfdrop.hub.checkpoints.trial import try_checkpoint  # noqa: PLC0415

    checkpoint = load_checkpoint(layout, "cpu")
    return msgspec.to_builtins(try_checkpoint(checkpoint, lambda done, total: on_progress("try", done, total)))
