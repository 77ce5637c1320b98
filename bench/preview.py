"""CPU time of a cold preview: 256 px, prompt to WebP, one thread, nothing cached.

Measured in this process with `time.process_time`, so waiting for a busy machine does not count (though shared caches
do: the least of all samples is what an idle machine comes to). Every sample is another seed of another prompt: nothing
is drawn twice.

preview_speedup_vs_eager is how much longer the same network takes in eager torch, in float32, with the teacher's steps
and guidance, on one thread, with the same steps before and after it. `--without-torch` leaves it out.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: we measure one thread
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from measuring import percentile, report, resident_mib, summarise

from halfdrop.contracts.patterns import PatternRequest, PatternSpec, pattern_key, resolve_spec
from halfdrop.edge.picture_files import encode_webp
from halfdrop.edge.previewer import OnnxModel, compose_webp
from halfdrop.models.bundle import Bundle, open_bundle, shipped_bundle_dir
from halfdrop.models.fields import choose_palette, decode_fields, fields_to_plates, tidy_fields
from halfdrop.models.hex_colours import spell_hex
from halfdrop.models.house.sampling import draw_plates, open_session
from halfdrop.models.house.tokenizer import Tokenizer
from halfdrop.models.phrases import read_phrases
from halfdrop.models.renderer import compose_tile

SIZE_PX = 256
WARM_UPS, SAMPLES = 5, 120
STAGED_SAMPLES, EAGER_SAMPLES = 60, 6
TEACHER_STEPS, TEACHER_GUIDANCE = 8, 2.0
GOAL_MS, GOAL_SPEEDUP = 10.0, 10.0

PROMPTS = (
    "red polka dots on white",
    "small pink blossoms with yellow centres on navy, half-drop",
    "green and yellow tartan plaid on red",
    "white daisies on forest green, brick layout",
    "large coral, teal and mustard terrazzo on white",
    "gold eight-pointed stars on purple, third drop",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--without-torch", action="store_true", help="do not compare with eager torch")
    chosen = parser.parse_args()
    bundle = open_bundle(shipped_bundle_dir())
    model = OnnxModel(bundle)
    for number in range(WARM_UPS):
        draw(model, bundle.digest, number)
    total, drawing, composing, size_bytes = [], [], [], []
    for number in range(WARM_UPS, WARM_UPS + SAMPLES):
        began_s = time.process_time()
        spec, key = understand(model, bundle.digest, number)
        drawn_s = time.process_time()
        plates = model.draw(spec, key)
        composed_s = time.process_time()
        webp = compose_webp(plates, spec.repeat, SIZE_PX)
        ended_s = time.process_time()
        total.append((ended_s - began_s) * 1000)
        drawing.append((composed_s - drawn_s) * 1000)
        composing.append((ended_s - composed_s) * 1000)
        size_bytes.append(len(webp))
    resident_mb = round(resident_mib(os.getpid()), 1)
    stages = time_stages(bundle, model)
    speedup = {} if chosen.without_torch else compare_with_eager(bundle, model, stages, percentile(total, 0.5))
    report(
        "preview",
        {
            **summarise("cpu_ms", total),
            "cpu_ms_min": round(min(total), 3),
            "preview_cpu_ms_p50": round(percentile(total, 0.5), 3),
            **summarise("draw_cpu_ms", drawing),
            **summarise("compose_cpu_ms", composing),
            "stages_cpu_ms_p50": stages,
            **speedup,
            "webp_bytes_mean": round(sum(size_bytes) / len(size_bytes)),
            "size_px": SIZE_PX,
            "rss_mb": resident_mb,
            "bundle": bundle.digest[:12],
            "goal_cpu_ms_p50": GOAL_MS,
            "goal_speedup": GOAL_SPEEDUP,
        },
    )


class TimedSession:
    """An inference session that keeps the CPU time of its runs."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.cpu_s = 0.0

    def run(self, *arguments: Any) -> Any:
        began_s = time.process_time()
        try:
            return self._session.run(*arguments)
        finally:
            self.cpu_s += time.process_time() - began_s


def time_stages(bundle: Bundle, model: OnnxModel) -> dict[str, float]:
    """Return the median CPU time of each stage of a preview in ms, each called as the edge calls it."""
    tokenizer = Tokenizer.load(bundle.directory / "tokenizer" / "vocab.json")
    sessions = [
        TimedSession(open_session(bundle.directory / "onnx" / name)) for name in ("text_encoder.onnx", "denoiser.onnx")
    ]
    spent: dict[str, list[float]] = defaultdict(list)

    def timed(stage: str, work: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        began_s = time.process_time()
        outcome = work(*arguments, **options)
        spent[stage].append((time.process_time() - began_s) * 1000)
        return outcome

    for number in range(1000, 1000 + STAGED_SAMPLES):
        spec, key = timed("understand", understand, model, bundle.digest, number)
        for session in sessions:
            session.cpu_s = 0.0
        ids = tokenizer.encode(spec.prompt)
        fields, palette = timed("sampling", draw_plates, *sessions, ids, spec.seed, repeat=spec.repeat)
        spent["text_encoder"].append(sessions[0].cpu_s * 1000)
        spent["denoiser"].append(sessions[1].cpu_s * 1000)
        spent["sampling"][-1] -= sum(session.cpu_s for session in sessions) * 1000
        tidy = timed("tidy", tidy_fields, fields)
        colours = choose_palette(palette, ())
        plates = fields_to_plates(tidy, colours, pattern_key=key, model_digest=bundle.digest)
        tile = timed("compose", compose_tile, decode_fields(plates), colours, spec.repeat, SIZE_PX)
        timed("webp", encode_webp, tile)
    return {stage: round(percentile(each, 0.5), 3) for stage, each in spent.items()}


def compare_with_eager(
    bundle: Bundle, model: OnnxModel, stages: dict[str, float], preview_ms: float
) -> dict[str, float]:
    """Return what the network takes in eager torch, and how much longer a preview would take by it."""
    import torch  # noqa: PLC0415 - after the edge's memory was read, which has no torch

    from halfdrop.models.house.net import load_student, torus_tensors  # noqa: PLC0415
    from halfdrop.models.house.sampling_torch import noise_of_seeds, sample_plates  # noqa: PLC0415
    from halfdrop.models.house.torus import lattice_of, torus_of  # noqa: PLC0415

    torch.set_num_threads(1)
    tokenizer = Tokenizer.load(bundle.directory / "tokenizer" / "vocab.json")
    text_encoder, denoiser = load_student(bundle.directory)
    eager_ms = []
    for number in range(EAGER_SAMPLES):
        spec, _ = understand(model, bundle.digest, number)
        began_s = time.process_time()
        sample_plates(
            text_encoder,
            denoiser,
            torch.tensor([tokenizer.encode(spec.prompt)]),
            noise_of_seeds([spec.seed]),
            steps=TEACHER_STEPS,
            guidance=TEACHER_GUIDANCE,
            torus=torus_tensors([torus_of(lattice_of(spec.repeat))]),
        )
        eager_ms.append((time.process_time() - began_s) * 1000)
    eager = percentile(eager_ms, 0.5)
    rest = stages["understand"] + stages["tidy"] + stages["compose"] + stages["webp"]
    return {
        "eager_draw_cpu_ms_p50": round(eager, 1),
        "preview_speedup_vs_eager": round((eager + rest) / preview_ms, 2),
    }


def understand(model: OnnxModel, model_digest: str, number: int) -> tuple[PatternSpec, str]:
    """Return what the edge makes of the `number`th request."""
    request = PatternRequest(prompt=PROMPTS[number % len(PROMPTS)], seed=number)
    read = read_phrases(request.prompt)
    words = model.read_words(spell_hex(read.prompt), may_be_empty=False)
    spec = resolve_spec(request, prompt=words.prompt, repeat=read.repeat, model_digest=model_digest)
    return spec, pattern_key(spec)


def draw(model: OnnxModel, model_digest: str, number: int) -> bytes:
    """Return one whole preview."""
    spec, key = understand(model, model_digest, number)
    return model.render(spec, key, SIZE_PX).webp


if __name__ == "__main__":
    main()
