"""Write a training run's student as a bundle: `python -m halfdrop.models.house.export_bundle --run DIR`.

A bundle is diffusers' directory form for the hub (bfloat16 safetensors), ONNX files beside it for the edge, and a
manifest that names every file by its digest. It is built beside its place and moved there whole.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from halfdrop.models.bundle import MANIFEST_NAME, bundle_digest, file_table, shipped_bundle_dir
from halfdrop.models.house.checkpoint import (
    STUDENT_FILE,
    STUDENT_SETTINGS_FILE,
    TEACHER_FILE,
    TEACHER_SETTINGS_FILE,
    VOCABULARY_FILE,
    Networks,
)
from halfdrop.models.house.export_onnx import export_networks
from halfdrop.models.house.kinds.catalogue import KIND_NAMES
from halfdrop.models.house.net import config_json, parameter_count
from halfdrop.models.house.report import say
from halfdrop.models.house.schedule import CLEAN_LIMIT, STUDENT_STEPS
from halfdrop.models.house.tokenizer import Tokenizer

NAME, VERSION = "house", "5"
LICENCE = "Apache-2.0"
TRAINING_DATA = (
    "Patterns drawn by Halfdrop's own code while training (halfdrop.models.house.kinds), captioned by its own grammar; "
    "no pictures, texts or weights from elsewhere."
)
# The hub's diffusers pipeline opens the bundle: these are its classes and the release it is made for. They are named
# here as text, because models may not import the hub.
DIFFUSERS_VERSION = "0.39.0"
HUB_MODULE = "halfdrop.hub.pipeline"
PIPELINE = {
    "_class_name": "HousePipeline",
    "_diffusers_version": DIFFUSERS_VERSION,
    "denoiser": [HUB_MODULE, "HouseDenoiser"],
    "scheduler": [HUB_MODULE, "HouseScheduler"],
    "text_encoder": [HUB_MODULE, "HouseTextEncoder"],
}
SCHEDULER = {
    "_class_name": "HouseScheduler",
    "_diffusers_version": DIFFUSERS_VERSION,
    "num_inference_steps": STUDENT_STEPS,
    "clean_limit": CLEAN_LIMIT,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What the manifest tells of how the weights came to be."""

    teacher_samples: int
    student_samples: int
    """0 where the teacher itself was exported, undistilled."""
    teacher_settings: dict[str, Any]
    student_settings: dict[str, Any]


def export_bundle(run: Path, out: Path, gates: dict[str, Any] | None = None, is_early: bool = False) -> str:
    """Write the bundle of a training run to `out`, replacing what is there, and return its digest.

    is_early: export the teacher as it stands, for those who need the files' shape before the student is ready.
    gates: what was measured of these weights; see `gates`.
    """
    building = out.with_name(f".{out.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    networks, training = _load_run(run, is_early)
    _write_networks(networks, building)
    (building / "tokenizer").mkdir()
    shutil.copy(run / VOCABULARY_FILE, building / "tokenizer" / "vocab.json")
    _write_json(building / "scheduler" / "scheduler_config.json", SCHEDULER)
    _write_json(building / "model_index.json", PIPELINE)
    (building / "onnx").mkdir()
    export_networks(networks.text_encoder, networks.denoiser, building / "onnx")
    digest = write_manifest(building, networks, training, gates or {})
    shutil.rmtree(out, ignore_errors=True)
    building.rename(out)
    return digest


def write_manifest(directory: Path, networks: Networks, training: Training, gates: dict[str, Any]) -> str:
    """Write the manifest over the files that are there and return the bundle's digest."""
    files = file_table(directory)
    manifest = {
        "name": NAME,
        "version": VERSION,
        "licence": LICENCE,
        "training_data": TRAINING_DATA,
        "commit": current_commit(),
        "kinds": list(KIND_NAMES),
        "parameters": parameter_count(*networks.modules()),
        "training": asdict(training),
        "gates": gates,
        "files": files,
    }
    encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (directory / MANIFEST_NAME).write_bytes(encoded + b"\n")
    return bundle_digest(files)


def record_gates(directory: Path, gates: dict[str, Any]) -> None:
    """Put what was measured into a bundle's manifest; the digest, which is over the files, stays the same."""
    path = directory / MANIFEST_NAME
    manifest = msgspec.json.decode(path.read_bytes())
    manifest["gates"] = gates
    path.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")


def _load_run(run: Path, is_early: bool) -> tuple[Networks, Training]:
    teacher = torch.load(run / TEACHER_FILE, weights_only=True)
    networks = Networks.fresh(Tokenizer.load(run / VOCABULARY_FILE).size, "cpu")
    _, teacher_samples, _ = teacher["progress"]
    settings = _read_json(run / TEACHER_SETTINGS_FILE)
    if is_early:
        networks.load(teacher["average"])
        return _rounded(networks), Training(
            teacher_samples=teacher_samples, student_samples=0, teacher_settings=settings, student_settings={}
        )
    student = torch.load(run / STUDENT_FILE, weights_only=True)
    networks.load(student["student"])
    return _rounded(networks), Training(
        teacher_samples=teacher_samples,
        student_samples=student["samples"],
        teacher_settings=settings,
        student_settings=_read_json(run / STUDENT_SETTINGS_FILE),
    )


def _rounded(networks: Networks) -> Networks:
    """Round the weights to bfloat16, as the hub will read them: edge and hub then differ by INT8 alone."""
    for parameter in networks.parameters():
        parameter.data = parameter.data.bfloat16().float()
    return networks


def _write_networks(networks: Networks, directory: Path) -> None:
    encoder, denoiser = networks.text_encoder, networks.denoiser
    (directory / "text_encoder").mkdir()
    (directory / "denoiser").mkdir()
    config = config_json(encoder.config, "HouseTextEncoder")
    (directory / "text_encoder" / "config.json").write_text(config, encoding="utf-8")
    (directory / "denoiser" / "config.json").write_text(config_json(denoiser.config, "HouseDenoiser"), encoding="utf-8")
    _save_weights(encoder, directory / "text_encoder" / "model.safetensors")
    _save_weights(denoiser, directory / "denoiser" / "diffusion_pytorch_model.safetensors")


def _save_weights(module: nn.Module, path: Path) -> None:
    weights: dict[str, Tensor] = {name: value.bfloat16().contiguous() for name, value in module.state_dict().items()}
    # One member only: safetensors writes several in an order of its own, and equal weights must give equal digests.
    save_file(weights, path, metadata={"format": "pt"})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def current_commit() -> str:
    """Return the commit of the working tree, or "unknown" outside a repository."""
    here = Path(__file__).parent
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    return asked.stdout.strip() or "unknown"


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of the training run")
    parser.add_argument("--out", type=Path, default=shipped_bundle_dir(), help="where the bundle goes")
    parser.add_argument("--early", action="store_true", help="export the undistilled teacher")
    chosen = parser.parse_args()
    digest = export_bundle(chosen.run, chosen.out, is_early=chosen.early)
    say(f"{chosen.out.name} {digest}")


if __name__ == "__main__":
    main()
