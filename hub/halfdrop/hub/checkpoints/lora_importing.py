"""A LoRA becomes a bundle of one file, so that orders can name it and manifests its digest.

It is read as far as that goes without the checkpoint that it is for: its header, and the names of its weights. Whether
they fit is known when they are added, and refused then.
"""

import shutil
from pathlib import Path

import msgspec

from halfdrop.contracts.errors import PermanentError
from halfdrop.hub.checkpoints.importing import OnProgress, building, write_manifest
from halfdrop.hub.checkpoints.lora_names import parse_name
from halfdrop.hub.checkpoints.refusals import shown
from halfdrop.hub.checkpoints.safetensors_header import read_header
from halfdrop.models.bundle import Manifest, file_table

LORA_NAME = "lora.safetensors"
"""The one file of a LoRA's bundle."""

FILE_MAX_BYTES = 2 * 2**30
"""A LoRA of rank 128 for all of SDXL, convolutions too, is 1.7 GB in float16."""

TRAINING_DATA = "Brought by its user; what it was trained on is for its own card to say."


def import_lora(
    source: Path, bundle_dir: Path, *, name: str, version: str, licence: str, on_progress: OnProgress
) -> None:
    """Make the LoRA file `source` a bundle in `bundle_dir`, which must not exist yet or be empty.

    Stages: "check", "copy", "write". Raises PermanentError(bad-lora) for what is no plain LoRA, bundle-exists.
    """
    on_progress("check", 0, 1)
    names = check_lora(source)
    on_progress("check", 1, 1)
    with building(bundle_dir) as staging:
        on_progress("copy", 0, 1)
        shutil.copyfile(source, staging / LORA_NAME)
        on_progress("copy", 1, 1)
        manifest = msgspec.to_builtins(
            Manifest(
                name=name,
                version=version,
                licence=licence,
                training_data=TRAINING_DATA,
                files=file_table(staging),
                kind="lora",
            )
        )
        write_manifest(staging, manifest | {"weights": names})
    on_progress("write", 1, 1)


def check_lora(source: Path) -> int:
    """Return how many weights the file has. Raises PermanentError(bad-lora, bad-checkpoint) for what is no LoRA."""
    size_bytes = source.stat().st_size
    if size_bytes > FILE_MAX_BYTES:
        raise _bad(source, f"{size_bytes:,} bytes", f"up to {FILE_MAX_BYTES:,}")
    names = list(read_header(source))
    strangers = [name for name in names if parse_name(name) is None]
    if strangers or not names:
        got = f"{shown(strangers[0])}, which is no plain LoRA's" if strangers else "no weights"
        raise _bad(source, got, "lora_down and lora_up, or lora_A and lora_B, and alphas; no DoRA, LoHa or LoKr")
    return len(names)


def _bad(source: Path, got: str, allowed: str) -> PermanentError:
    detail = f"{source.name}: got {got}; allowed: {allowed}. Bring a plain LoRA."
    return PermanentError(detail, code="bad-lora")
