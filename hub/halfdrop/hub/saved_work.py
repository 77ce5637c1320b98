"""What a job has come to, as bytes: the sampler's state after a step, and the files that are stored whole.

The form is a safetensors file. Its own header carries, under META_KEY, a small JSON record of what the tensors belong
to. Whoever reads it checks all of that: a state of another spec, model, size, device or release is worth less than
none, because the picture would be another one. Pure: no store, no torch.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from halfdrop.contracts.jobs import Artifact

SAVED_NAME = "saved.safetensors"
"""Beside the job's files, until it ends."""

SAVED_MAX_BYTES = 64 * 2**20
"""Nothing larger is read. The house model's state has 64 KiB; a latent of Stable Diffusion XL at 4096 px has 4 MiB."""

META_KEY, META_SHA256_KEY = "halfdrop", "halfdrop-sha256"
_HEADER_MAX_BYTES = 1024 * 1024


class TensorForm(msgspec.Struct, frozen=True, kw_only=True):
    """What a tensor must look like."""

    shape: tuple[int, ...]
    dtype: str
    sha256: str


class SavedSampling(msgspec.Struct, frozen=True, kw_only=True):
    """Where sampling stands. The seed's noise is spent in the latents; a scheduler that draws by chance later on has a
    generator, whose state is one of the tensors."""

    model_digest: str
    seed: int
    step: int
    """Steps done."""

    levels: tuple[float, ...]
    """The scheduler's noise levels, all it knows."""

    device: str
    """"cpu" or "cuda": another kind of device rounds in another way."""

    dtype: str
    """The network's own precision: "float32"."""

    tensors: dict[str, TensorForm]
    memory: dict[str, Any] = {}
    """What the scheduler has come to remember beside its levels; empty for the house's, which remembers nothing."""


class SavedFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Files of the job that lie in the store."""

    fields_sha256: str
    """What they were made of: the unit's fields as they were after refining, and the palette."""

    artifacts: tuple[Artifact, ...]


class SavedWork(msgspec.Struct, frozen=True, kw_only=True, tag="saved.v1"):
    """The JSON record."""

    release: str
    pattern_key: str
    size_px: int
    sampling: SavedSampling | None = None
    files: SavedFiles | None = None


@dataclass(frozen=True, kw_only=True)
class SamplerState:
    """The sampler after a step, in memory."""

    model_digest: str
    seed: int
    step: int
    levels: tuple[float, ...]
    device: str
    dtype: str
    tensors: Mapping[str, NDArray[Any]]
    """`latents`, [1, channels, side, side]; the house model's `palettes`, [1, 5, 3], sRGB 0 to 1: the text encoder's
    choice, made before the first step; those that `memory` names."""

    memory: Mapping[str, Any] = field(default_factory=dict)
    """As in SavedSampling."""

    @property
    def latents(self) -> NDArray[Any]:
        return self.tensors["latents"]


TakeState = Callable[[], SamplerState]
"""Copies the state out of the sampler when it is called; until then a step costs nothing."""


def encode_saved(
    *, release: str, pattern_key: str, size_px: int, state: SamplerState | None, files: SavedFiles | None
) -> bytes:
    """Return the file."""
    tensors: dict[str, np.ndarray] = {}
    sampling = None
    if state is not None:
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in state.tensors.items()}
        sampling = SavedSampling(
            model_digest=state.model_digest,
            seed=state.seed,
            step=state.step,
            levels=state.levels,
            device=state.device,
            dtype=state.dtype,
            tensors={name: _form_of(tensor) for name, tensor in tensors.items()},
            memory=dict(state.memory),
        )
    record = SavedWork(release=release, pattern_key=pattern_key, size_px=size_px, sampling=sampling, files=files)
    meta = msgspec.json.encode(record)
    return bytes(save(tensors, metadata={META_KEY: meta.decode(), META_SHA256_KEY: hashlib.sha256(meta).hexdigest()}))


def decode_saved(data: bytes) -> tuple[SavedWork, SamplerState | None]:
    """Return the record and the sampler's state. Raises ValueError, saying what is wrong, for anything damaged."""
    try:
        record = msgspec.json.decode(_read_meta(data), type=SavedWork)
        tensors = load(data)
    except (msgspec.MsgspecError, SafetensorError) as error:
        raise ValueError(f"not a saved state: {error}") from error
    if record.sampling is None:
        return record, None
    _check_tensors(tensors, record.sampling.tensors)
    if "latents" not in tensors:
        raise ValueError(f"tensors: got {sorted(tensors)}; allowed: latents, and what belongs to them")
    saved = record.sampling
    state = SamplerState(
        model_digest=saved.model_digest,
        seed=saved.seed,
        step=saved.step,
        levels=saved.levels,
        device=saved.device,
        dtype=saved.dtype,
        tensors=tensors,
        memory=saved.memory,
    )
    return record, state


def why_unfit(
    state: SamplerState,
    *,
    model_digest: str,
    seed: int,
    levels: tuple[float, ...],
    device: str,
    dtype: str,
    shape: tuple[int, ...],
    names: Collection[str] = ("latents",),
) -> str:
    """Return why sampling cannot go on from `state`, or "" if it can. shape: that of the latents; names: of the tensors
    that there must be at least."""
    wanted: dict[str, tuple[object, object]] = {
        "model": (state.model_digest, model_digest),
        "seed": (state.seed, seed),
        "levels": (state.levels, levels),
        "device": (state.device, device),
        "precision": (state.dtype, dtype),
        "shape of latents": (state.latents.shape, shape),
        "kind of latents": (state.latents.dtype.kind, "f"),
        "tensors": (sorted(state.tensors.keys() & set(names)), sorted(names)),
    }
    for name, (got, allowed) in wanted.items():
        if got != allowed:
            return f"{name}: got {got}; allowed: {allowed}"
    if not 0 < state.step < len(levels):
        return f"step: got {state.step}; allowed: 1 to {len(levels) - 1}"
    return "" if np.isfinite(state.latents).all() else "latents: not finite"


def fields_digest(fields: np.ndarray, palette: tuple[str, ...]) -> str:
    """Return the digest of what a job's files are made of."""
    digest = hashlib.sha256(np.ascontiguousarray(fields).tobytes())
    digest.update(repr((fields.shape, str(fields.dtype), palette)).encode())
    return digest.hexdigest()


def _form_of(tensor: np.ndarray) -> TensorForm:
    return TensorForm(shape=tensor.shape, dtype=str(tensor.dtype), sha256=hashlib.sha256(tensor.tobytes()).hexdigest())


def _read_meta(data: bytes) -> str:
    """Return our record out of safetensors' header: eight bytes of length, then JSON."""
    length = int.from_bytes(data[:8], "little")
    if not 0 < length <= min(_HEADER_MAX_BYTES, len(data)):
        raise ValueError(f"not a saved state: a header of {length} bytes in {len(data)}")
    header = msgspec.json.decode(data[8 : 8 + length])
    found = header.get("__metadata__") if isinstance(header, dict) else None
    metadata = found if isinstance(found, dict) else {}
    meta = metadata.get(META_KEY)
    if not isinstance(meta, str) or metadata.get(META_SHA256_KEY) != hashlib.sha256(meta.encode()).hexdigest():
        raise ValueError(f"not a saved state: no {META_KEY!r} in its header that is as it was written")
    return meta


def _check_tensors(tensors: Mapping[str, np.ndarray], forms: Mapping[str, TensorForm]) -> None:
    if tensors.keys() != forms.keys():
        raise ValueError(f"tensors: got {sorted(tensors)}; allowed: {sorted(forms)}")
    for name, tensor in tensors.items():
        if _form_of(tensor) != forms[name]:
            raise ValueError(f"{name}: not the tensor that was saved")
