"""Write a trained refiner as a bundle: `python -m halfdrop.models.house.refiner.export --run DIR --out DIR`.

The bundle is named by the digest of its files, holds everything the hub needs to refine, and says what it was made of
and what it measured. It is built beside its place and moved there whole.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import save_file

from halfdrop.models.bundle import (
    MANIFEST_NAME,
    bundle_digest,
    file_table,
    open_bundle,
    shipped_bundle_dir,
    shipped_refiner_dir,
)
from halfdrop.models.house.export_bundle import LICENCE, current_commit
from halfdrop.models.house.net import parameter_count
from halfdrop.models.house.refiner.measuring import measure_refiner
from halfdrop.models.house.refiner.net import RefinerConfig, RefinerNet, refiner_config_json
from halfdrop.models.house.refiner.train import CHECKPOINT_FILE, SETTINGS_FILE, VOCABULARY_FILE
from halfdrop.models.house.refining import NET_FOLDER, VOCABULARY_PATH
from halfdrop.models.house.report import say
from halfdrop.models.house.tokenizer import Tokenizer

NAME, VERSION = "house-render", "1"
TRAINING_DATA = (
    "Pairs made while training: units drawn by Halfdrop's own code on a fine grid, and the same units as the house's "
    "preview model or a formula spoils them; no pictures, texts or weights from elsewhere."
)


def export_refiner(run: Path, out: Path, strength: float = 1.0) -> str:
    """Write the bundle of a training run to `out`, replacing what is there, and return its digest.

    strength: share of the network's correction that the bundle makes, 0 to 1.
    """
    building = out.with_name(f".{out.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    (building / NET_FOLDER).mkdir(parents=True)
    (building / VOCABULARY_PATH).parent.mkdir()
    shutil.copy(run / VOCABULARY_FILE, building / VOCABULARY_PATH)
    state = torch.load(run / CHECKPOINT_FILE, weights_only=True)
    config = RefinerConfig(vocabulary_size=Tokenizer.load(run / VOCABULARY_FILE).size, strength=strength)
    net = RefinerNet(config)
    net.load_state_dict(state["average"])
    (building / NET_FOLDER / "config.json").write_text(refiner_config_json(config), encoding="utf-8")
    weights = {name: value.half().contiguous() for name, value in net.state_dict().items()}
    # One member only: safetensors writes several in an order of its own, and equal weights must give equal digests.
    save_file(weights, building / NET_FOLDER / "model.safetensors", metadata={"format": "pt"})
    digest = write_refiner_manifest(building, run, parameters=parameter_count(net), progress=state["progress"])
    shutil.rmtree(out, ignore_errors=True)
    building.rename(out)
    return digest


def write_refiner_manifest(directory: Path, run: Path, *, parameters: int, progress: tuple[int, int, float]) -> str:
    """Write the manifest over the files that are there and return the bundle's digest."""
    files = file_table(directory)
    steps, samples, elapsed_s = progress
    manifest = {
        "name": NAME,
        "version": VERSION,
        "kind": "house-render",
        "licence": LICENCE,
        "training_data": TRAINING_DATA,
        "commit": current_commit(),
        "parameters": parameters,
        "training": {
            "steps": steps,
            "samples": samples,
            "minutes": round(elapsed_s / 60, 1),
            "settings": json.loads((run / SETTINGS_FILE).read_text(encoding="utf-8")),
        },
        "gates": {},
        "files": files,
    }
    _write(directory, manifest)
    return bundle_digest(files)


def record_figures(directory: Path, figures: dict[str, Any]) -> None:
    """Put what was measured into the manifest; the digest, which is over the files, stays the same."""
    manifest = msgspec.json.decode((directory / MANIFEST_NAME).read_bytes())
    manifest["gates"] = figures
    _write(directory, manifest)


def _write(directory: Path, manifest: dict[str, Any]) -> None:
    encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (directory / MANIFEST_NAME).write_bytes(encoded + b"\n")


def main() -> None:
    """Read the command line, export and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of the training run")
    parser.add_argument("--out", type=Path, default=shipped_refiner_dir(), help="where the bundle goes")
    parser.add_argument("--student", type=Path, default=shipped_bundle_dir(), help="the model whose plates are refined")
    parser.add_argument("--strength", type=float, default=1.0, help="share of the network's correction that is made")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    digest = export_refiner(chosen.run, chosen.out, chosen.strength)
    figures = {"student": open_bundle(chosen.student).digest, **measure_refiner(chosen.out, chosen.student)}
    record_figures(chosen.out, figures)
    say(json.dumps({"bundle": digest, **figures}))


if __name__ == "__main__":
    main()
