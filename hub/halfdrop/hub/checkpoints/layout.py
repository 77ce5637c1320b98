"""The layout of a checkpoint's directory, checked before anything in it is loaded or copied.

diffusers' form: model_index.json names a pipeline and its components; each component has a folder with config.json and
weights. Only what drawing needs is taken: a safety checker, a feature extractor or an image encoder is left out.
Nothing here imports torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import msgspec

from halfdrop.contracts.errors import PermanentError
from halfdrop.hub.checkpoints.families import SCHEDULERS, Family, find_family
from halfdrop.hub.checkpoints.refusals import refusal, shown
from halfdrop.hub.checkpoints.safetensors_header import TensorEntry, read_header

INDEX_NAME = "model_index.json"
TEXT_MAX_BYTES = 16 * 2**20
"""A tokenizer's vocabulary is 1 MB; tokenizer.json 4 MB."""

WEIGHTS_MAX_BYTES = 24 * 2**30
"""SDXL in float32 is 14 GB in all."""

SHARDS_MAX = 64
SAMPLE_SIZE_MAX = 256
"""Latents of 2048 px."""

PICKLED = frozenset({".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle"})
_WEIGHTS_NAMES = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}
_TOKENIZER_FILES = ("vocab.json", "merges.txt")
_TOKENIZER_EXTRAS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json")
_PEOPLES_FILES = ("README.md", "LICENSE", "LICENSE.md", "LICENSE.txt")


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """A directory whose layout is right."""

    family: Family
    scheduler: str
    """Name of diffusers' class."""

    files: dict[str, Path]
    """Path in a bundle, with forward slashes, to the file that belongs there; everything but model_index.json."""

    tensors: dict[str, dict[str, TensorEntry]]
    """Component to what its weights hold, over all shards."""

    configs: dict[str, dict[str, Any]]
    """Component to its configuration; models only."""

    index: dict[str, Any]
    """model_index.json for a bundle: without the components that are left out."""

    left_out: tuple[str, ...]
    """Components that the directory has and drawing does not need."""


def check_layout(source: Path) -> Layout:
    """Return what is in the directory `source`.

    Raises PermanentError: bad-checkpoint for what is missing, damaged, pickled or too large, unsupported-checkpoint for
    a family that cannot be made to repeat.
    """
    if not source.is_dir():
        raise refusal(shown(str(source)), got="a file" if source.exists() else "nothing there",
                      allowed=f"a directory in diffusers' form, with {INDEX_NAME}",
                      advice="Convert a single file with diffusers' scripts, and name its directory")  # fmt: skip
    _refuse_pickles(source)
    index = read_json(source / INDEX_NAME)
    family = find_family(index.get("_class_name"))
    scheduler = _check_index(index, family)
    files = {name: source / name for name in _PEOPLES_FILES if (source / name).is_file()}
    files["scheduler/scheduler_config.json"] = source / "scheduler" / "scheduler_config.json"
    read_json(files["scheduler/scheduler_config.json"])
    tensors: dict[str, dict[str, TensorEntry]] = {}
    configs: dict[str, dict[str, Any]] = {}
    for component, (library, kind) in family.components.items():
        if kind == "CLIPTokenizer":
            files |= dict(_tokenizer_files(source, component))
            continue
        files[f"{component}/config.json"] = source / component / "config.json"
        configs[component] = read_json(source / component / "config.json")
        tensors[component], weights = _read_weights(source / component, _WEIGHTS_NAMES[library])
        files |= {f"{component}/{name}": file for name, file in weights.items()}
    _check_sizes(files)
    if not isinstance(size := configs["unet"].get("sample_size"), int) or not 1 <= size <= SAMPLE_SIZE_MAX:
        raise refusal("unet/config.json: sample_size", got=shown(size), allowed=f"1 to {SAMPLE_SIZE_MAX}",
                      advice="Write the side of the latents that it was trained for: 64 for 512 px")  # fmt: skip
    kept = {"scheduler", *family.components}
    left_out = tuple(name for name, value in index.items() if _is_component(value) and name not in kept)
    index = {name: [None, None] if name in left_out else value for name, value in index.items()}
    return Layout(family=family, scheduler=scheduler, files=files, tensors=tensors, configs=configs,
                  index=index, left_out=left_out)  # fmt: skip


def read_json(file: Path) -> dict[str, Any]:
    """Return the JSON object in `file`. Raises PermanentError(bad-checkpoint) if there is none, or a huge one."""
    where = f"{file.parent.name}/{file.name}"
    try:
        if (size := file.stat().st_size) > TEXT_MAX_BYTES:
            raise _oversized(where, size, TEXT_MAX_BYTES)
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise _missing(where, error.strerror or "nothing") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise refusal(where, got=str(error), allowed="a JSON object", advice="Fetch it again") from error


def _refuse_pickles(source: Path) -> None:
    for file in sorted(source.rglob("*")):
        if file.suffix.lower() in PICKLED:
            path = file.relative_to(source).as_posix()
            raise refusal(path, got="a pickled file, which can run code when it is loaded",
                          allowed="safetensors only", advice="Save the checkpoint with safe_serialization=True, or "
                          "delete this file if a .safetensors lies beside it")  # fmt: skip


def _check_index(index: dict[str, Any], family: Family) -> str:
    """Return the scheduler's class after checking that every component is of the class its family has."""
    for component, (library, kind) in family.components.items():
        got = index.get(component)
        # A fast tokenizer is the same vocabulary in another program; only the plain one is loaded here.
        if got not in ([library, kind], [library, f"{kind}Fast"]):
            raise refusal(f"{INDEX_NAME}: {component}", got=shown(got), allowed=f'["{library}", "{kind}"]',
                          advice=f"A {family.pipeline} needs it; bring a complete one")  # fmt: skip
    got = index.get("scheduler")
    if not (_is_component(got) and got[1] in SCHEDULERS):
        raise refusal(f"{INDEX_NAME}: scheduler", got=shown(got), allowed=", ".join(sorted(SCHEDULERS)),
                      advice="Save the pipeline with one of these")  # fmt: skip
    return str(got[1])


def _is_component(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)


def _tokenizer_files(source: Path, component: str) -> Iterator[tuple[str, Path]]:
    for name in (*_TOKENIZER_FILES, *_TOKENIZER_EXTRAS):
        file = source / component / name
        if file.is_file():
            yield f"{component}/{name}", file
        elif name in _TOKENIZER_FILES:
            raise _missing(f"{component}/{name}", "nothing")


def _read_weights(folder: Path, name: str) -> tuple[dict[str, TensorEntry], dict[str, Path]]:
    """Return the tensors of a component and its files by their names in a bundle.

    A whole file comes before shards, and plain weights before a variant (fp16), which loses that name in the bundle.
    """
    whole = [folder / f"{name}.safetensors", *sorted(folder.glob(f"{name}.*.safetensors"))]
    if file := next((file for file in whole if file.is_file()), None):
        return read_header(file), {f"{name}.safetensors": file}
    indexes = sorted(folder.glob(f"{name}*.index*.json"), key=lambda file: (len(file.name), file.name))
    if not indexes:
        raise _missing(f"{folder.name}/{name}.safetensors", "nothing")
    return _read_shards(folder, name, indexes[0])


def _read_shards(folder: Path, name: str, index: Path) -> tuple[dict[str, TensorEntry], dict[str, Path]]:
    weight_map = read_json(index).get("weight_map")
    shards = sorted({str(shard) for shard in weight_map.values()}) if isinstance(weight_map, dict) else []
    if not weight_map or not 1 <= len(shards) <= SHARDS_MAX or any(Path(shard).name != shard for shard in shards):
        raise refusal(index.name, got=f"{len(shards)} shards", allowed=f"1 to {SHARDS_MAX} files in the same folder",
                      advice="Fetch it again")  # fmt: skip
    tensors: dict[str, TensorEntry] = {}
    files = {f"{name}.safetensors.index.json": index}
    for shard in shards:
        if not (folder / shard).is_file():
            raise _missing(f"{folder.name}/{shard}", "nothing")
        held = read_header(folder / shard)
        if absent := [tensor for tensor, place in weight_map.items() if place == shard and tensor not in held]:
            raise refusal(shard, got=f"no {shown(absent[0])}", allowed="what its index says",
                          advice="Fetch it again")  # fmt: skip
        tensors |= held
        files[shard] = folder / shard
    return tensors, files


def _check_sizes(files: dict[str, Path]) -> None:
    weights_bytes = 0
    for path, file in files.items():
        size = file.stat().st_size
        if file.suffix == ".safetensors":
            weights_bytes += size
        elif size > TEXT_MAX_BYTES:
            raise _oversized(path, size, TEXT_MAX_BYTES)
    if weights_bytes > WEIGHTS_MAX_BYTES:
        raise _oversized("the weights", weights_bytes, WEIGHTS_MAX_BYTES)


def _missing(where: str, got: str) -> PermanentError:
    return refusal(where, got=got, allowed="a readable file", advice="Bring a complete checkpoint")


def _oversized(where: str, size: int, limit: int) -> PermanentError:
    return refusal(where, got=f"{size:,} bytes", allowed=f"up to {limit:,}", advice="Check what this file is")
