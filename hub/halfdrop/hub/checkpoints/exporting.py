"""An imported checkpoint becomes an edge bundle: ONNX by optimum's exporter, INT8 by its quantizer, and the same gates.

The exporter traces the networks as they lie on the torus, so the wrapped padding becomes slices and concatenations that
follow the input's size: one export serves every size of one lattice, a drop's included. Products with weights become
INT8 (dynamic, per channel); convolutions stay float32, because dynamic INT8 makes them slower.
"""

import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec

from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.checkpoints.importing import building, require_libraries, write_manifest
from halfdrop.hub.checkpoints.layout import INDEX_NAME, Layout, check_layout
from halfdrop.models.bundle import Manifest, file_table, open_bundle

if TYPE_CHECKING:
    from halfdrop.hub.checkpoints.drawing import Checkpoint
    from halfdrop.hub.checkpoints.onnx_gates import Gates

OnProgress = Callable[[str, int, int], None]

OPSET = 17
INT8_OPERATORS = ["MatMul", "Gemm"]
MODEL_NAME = "model.onnx"
NAME_KEPT_CHARS = 59
"""Of the checkpoint's name: with "-int8" behind it, 64 are allowed."""

EXTERNAL_FROM_BYTES = 3 * 2**29
"""A protobuf holds 2 GiB; larger weights go into a file beside it. Half of that is left for what quantizing adds."""

DENOISER, DECODER = "unet", "vae_decoder"
TRAINING_DATA = "That of the checkpoint it was exported from, which is for the checkpoint's own card to say."


@dataclass(frozen=True, kw_only=True, slots=True)
class _Parts:
    """Where the exported networks lie, one folder for each."""

    floats: Path
    int8: Path
    names: tuple[str, ...]


def export_int8(bundle_dir: Path, out_dir: Path, *, on_progress: OnProgress, repeat: Repeat | None = None) -> None:
    """Write the imported checkpoint in `bundle_dir` as an edge bundle to `out_dir`, which must not exist or be empty.

    repeat: the lattice that the networks are laid on; straight if left out. An ONNX file cannot be laid on another one
    later, and the manifest says which it has. Stages: "load", "export" and "quantize" (networks), "measure" (pictures),
    "write". Raises PermanentError: what opening the bundle raises, bundle-exists, and gate-failed when the export does
    not draw what the checkpoint draws; `out_dir` is then left as it was.
    """
    from halfdrop.hub.checkpoints.drawing import load_checkpoint  # noqa: PLC0415  imports torch: seconds

    lattice = (repeat or Repeat()).normalise()
    on_progress("load", 0, 1)
    require_libraries("optimum", "onnx", extra="checkpoints")
    source = open_bundle(bundle_dir)
    layout = check_layout(bundle_dir)
    checkpoint = load_checkpoint(layout, "cpu")
    on_progress("load", 1, 1)
    with (
        building(out_dir) as staging,
        TemporaryDirectory(prefix=".export-", dir=staging.parent) as room,
        _quiet_libraries(),
    ):
        parts = _export(checkpoint, lattice, Path(room), on_progress)
        precision, gates = _choose(checkpoint, lattice, parts, staging, on_progress)
        on_progress("write", 0, 1)
        manifest = msgspec.to_builtins(
            Manifest(
                name=f"{source.name[:NAME_KEPT_CHARS]}-int8",
                kind="checkpoint-edge",
                version=source.version,
                licence=source.manifest.licence,
                training_data=TRAINING_DATA,
                files=file_table(staging),
            )
        )
        manifest |= {"family": layout.family.name, "exported_from": source.digest, "repeat": lattice,
                     "precision": precision, "gates": gates}  # fmt: skip
        write_manifest(staging, manifest)
    on_progress("write", 1, 1)


def _export(checkpoint: "Checkpoint", repeat: Repeat, room: Path, on_progress: OnProgress) -> _Parts:
    """Write every network that drawing needs twice, in float32 and in INT8. An edge decodes and never encodes."""
    from optimum.exporters.onnx import export  # noqa: PLC0415
    from optimum.exporters.utils import get_diffusion_models_for_export  # noqa: PLC0415

    from halfdrop.hub.checkpoints.torus import lay_on_torus  # noqa: PLC0415

    lay_on_torus(checkpoint.pipeline.unet, repeat)
    lay_on_torus(checkpoint.pipeline.vae, repeat)
    networks = get_diffusion_models_for_export(
        checkpoint.pipeline, int_dtype="int64", float_dtype="fp32", exporter="onnx"
    )
    names = tuple(name for name in networks if name != "vae_encoder")
    parts = _Parts(floats=room / "floats", int8=room / "int8", names=names)
    for place, name in enumerate(names):
        on_progress("export", place, len(names))
        (parts.floats / name).mkdir(parents=True)
        network, config = networks[name]
        export(model=network, config=config, output=parts.floats / name / MODEL_NAME, opset=OPSET)
    on_progress("export", len(names), len(names))
    for place, name in enumerate(names):
        on_progress("quantize", place, len(names))
        if name != DECODER:  # all convolutions
            _quantize(parts.floats / name, parts.int8 / name)
    on_progress("quantize", len(names), len(names))
    return parts


def _quantize(source: Path, target: Path) -> None:
    from optimum.onnxruntime import ORTQuantizer  # noqa: PLC0415
    from optimum.onnxruntime.configuration import AutoQuantizationConfig  # noqa: PLC0415

    size = sum(file.stat().st_size for file in source.iterdir())
    config = AutoQuantizationConfig.avx2(is_static=False, per_channel=True, operators_to_quantize=INT8_OPERATORS)
    ORTQuantizer(source / MODEL_NAME).quantize(
        quantization_config=config,
        save_dir=target,
        file_suffix="",
        use_external_data_format=size > EXTERNAL_FROM_BYTES,
    )
    for file in target.iterdir():  # the quantizer leaves notes of its own
        if not file.name.startswith(MODEL_NAME):
            file.unlink()


def _choose(
    checkpoint: "Checkpoint", repeat: Repeat, parts: _Parts, staging: Path, on_progress: OnProgress
) -> tuple[dict[str, str], "Gates"]:
    """Fill `staging` with what passes the gates and return what is how precise, and the figures.

    Everything in INT8 is tried first; then the denoiser alone, because text encoders have outliers that INT8 loses.
    """
    from halfdrop.hub.checkpoints.onnx_gates import Drawn, draw_onnx, draw_torch, judge  # noqa: PLC0415

    _dress(checkpoint.layout, parts.floats)
    pictures = 4

    def told(done: int) -> None:
        on_progress("measure", done, pictures)

    told(0)
    exact = draw_torch(checkpoint, repeat)
    told(1)
    floats: Drawn = draw_onnx(checkpoint, parts.floats, repeat)
    told(2)
    failure = ""
    for attempt, kept in enumerate(((*parts.names,), (DENOISER,)), start=3):
        precision = {name: "int8" if name in kept and name != DECODER else "float32" for name in parts.names}
        for name, how in precision.items():
            shutil.rmtree(staging / name, ignore_errors=True)
            shutil.copytree((parts.int8 if how == "int8" else parts.floats) / name, staging / name)
        _dress(checkpoint.layout, staging)
        gates = judge(exact, floats, draw_onnx(checkpoint, staging, repeat), repeat)
        told(attempt)
        if not (failure := gates.failure()):
            told(pictures)
            return precision, gates
    raise PermanentError(f"export of {checkpoint.layout.family.name} to INT8: {failure}. Use the checkpoint itself, on "
                         "a hub.", code="gate-failed")  # fmt: skip


def _dress(layout: Layout, folder: Path) -> None:
    """Put beside the networks what a pipeline needs besides: the index, configurations, tokenizers, the scheduler."""
    (folder / INDEX_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(layout.index), indent=2) + b"\n")
    for path, file in layout.files.items():
        if file.suffix == ".safetensors" or path.endswith(".index.json"):
            continue
        target = folder / path.replace("vae/", f"{DECODER}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Hold back what libraries say of each other while exporting; everything else is still said."""
    from optimum.utils import logging  # noqa: PLC0415
    from torch.jit import TracerWarning  # type: ignore[attr-defined]  # noqa: PLC0415

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            # Sizes and dtypes that tracing makes constants; the gates draw at a size that was not traced.
            warnings.filterwarnings("ignore", category=TracerWarning)
            # optimum uses torch's former exporter and its scripting on purpose: the later one loses dynamic sizes here.
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(torch|optimum)\.")
            # How advanced indexing is written in this opset: right for indexes that are not negative, as CLIP's are.
            warnings.filterwarnings("ignore", message="Exporting aten::index operator", category=UserWarning)
            # optimum's text encoder reads its configuration the way diffusers is about to end.
            warnings.filterwarnings("ignore", message="Accessing config attribute", category=FutureWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)
