"""A checkpoint's networks: compared with what the weights say of themselves, then loaded.

The classes are ours by name (`families`), never the checkpoint's. What they expect is worked out without memory
(torch's meta device) and compared with the files' headers, because diffusers would fill in noise for what is missing.
"""

from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

from halfdrop.hub.checkpoints.layout import Layout
from halfdrop.hub.checkpoints.refusals import refusal, shown

_FLOATS = frozenset({"F32", "F16", "BF16"})
_OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
"""What the autoencoder's attention was called before 2023; most SD 1.5 checkpoints still have it so."""


def check_networks(layout: Layout) -> None:
    """Raise PermanentError(bad-checkpoint) unless every weight that the networks need is there, in its shape."""
    for component in layout.configs:
        with torch.device("meta"):
            expected = _build(layout, component).state_dict()
        held = {_current_name(component, name): entry for name, entry in layout.tensors[component].items()}
        for name, weight in expected.items():
            entry = held.get(name)
            if entry is None or entry.shape != tuple(weight.shape) or entry.dtype not in _FLOATS:
                got = "nothing" if entry is None else f"{entry.dtype} {list(entry.shape)}"
                raise refusal(
                    f"{component}: {name}",
                    got=got,
                    allowed=f"F32, F16 or BF16 of shape {list(weight.shape)}, as its config.json says",
                    advice="Bring the weights and the config.json that belong together",
                )


def load_network(layout: Layout, component: str, dtype: torch.dtype) -> nn.Module:
    """Return a network with its weights in `dtype`, on the CPU, for inference. Check it first."""
    with torch.device("meta"):
        network = _build(layout, component)
    weights: dict[str, Tensor] = {}
    for path, file in layout.files.items():
        if path.startswith(f"{component}/") and file.suffix == ".safetensors":
            held = load_file(file)
            weights |= {_current_name(component, name): value.to(dtype) for name, value in held.items()}
    known = network.state_dict().keys()
    network.load_state_dict({name: weights[name] for name in known}, assign=True)
    _fill_positions(network)
    return network.eval().requires_grad_(False)


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer in `folder`."""
    return transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def load_scheduler(layout: Layout) -> Any:
    """Return the checkpoint's own noise scheduler."""
    kind = getattr(diffusers, layout.scheduler)
    return kind.from_pretrained(layout.files["scheduler/scheduler_config.json"].parent, local_files_only=True)


def _build(layout: Layout, component: str) -> nn.Module:
    library, kind = layout.family.components[component]
    config = layout.configs[component]
    try:
        if library == "diffusers":
            network: nn.Module = getattr(diffusers, kind).from_config(config)
        else:
            network = getattr(transformers, kind)(transformers.CLIPTextConfig(**config))  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever a library makes of numbers that do not fit together
        raise refusal(f"{component}/config.json", got=shown(str(error)), allowed=f"a configuration of {kind}",
                      advice="Bring a complete checkpoint") from error  # fmt: skip
    return network


def _fill_positions(network: nn.Module) -> None:
    """CLIP counts its positions in a buffer that is not saved; on the meta device it is empty."""
    for module in network.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                assert name == "position_ids", name
                module.register_buffer(name, torch.arange(buffer.shape[-1])[None], persistent=False)


def _current_name(component: str, name: str) -> str:
    if component == "vae" and ".attentions." in name:
        for old, new in _OLD_ATTENTION.items():
            name = name.replace(old, new)
    return name
