"""CPU time of a cold preview: 256 px, prompt to WebP, one thread, nothing cached.

Measured in this process with `time.process_time`, so waiting for a busy machine does not count (though shared caches
do). Every sample is another seed of another prompt: nothing is drawn twice.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: we measure one thread
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import time

from measuring import report, resident_mib, summarise

from halfdrop.contracts.patterns import PatternRequest, PatternSpec, pattern_key, resolve_spec
from halfdrop.edge.previewer import OnnxModel, compose_webp
from halfdrop.models.bundle import open_bundle, shipped_bundle_dir
from halfdrop.models.phrases import read_phrases

SIZE_PX = 256
WARM_UPS, SAMPLES = 5, 120
GOAL_MS = 20.0

PROMPTS = (
    "red polka dots on white",
    "small pink blossoms with yellow centres on navy, half-drop",
    "green and yellow tartan plaid on red",
    "white daisies on forest green, brick layout",
    "large coral, teal and mustard terrazzo on white",
    "gold eight-pointed stars on purple, third drop",
)


def main() -> None:
    bundle = open_bundle(shipped_bundle_dir())
    model = OnnxModel(bundle)
    for number in range(WARM_UPS):
        draw(model, bundle.digest, number)
    total, drawing, composing, size_bytes = [], [], [], []
    for number in range(WARM_UPS, WARM_UPS + SAMPLES):
        began_s = time.process_time()
        spec, key = understand(bundle.digest, number)
        drawn_s = time.process_time()
        plates = model.draw(spec, key)
        composed_s = time.process_time()
        webp = compose_webp(plates, spec.repeat, SIZE_PX)
        ended_s = time.process_time()
        total.append((ended_s - began_s) * 1000)
        drawing.append((composed_s - drawn_s) * 1000)
        composing.append((ended_s - composed_s) * 1000)
        size_bytes.append(len(webp))
    report(
        "preview",
        {
            **summarise("cpu_ms", total),
            **summarise("draw_cpu_ms", drawing),
            **summarise("compose_cpu_ms", composing),
            "webp_bytes_mean": round(sum(size_bytes) / len(size_bytes)),
            "size_px": SIZE_PX,
            "rss_mb": round(resident_mib(os.getpid()), 1),
            "bundle": bundle.digest[:12],
            "goal_cpu_ms_p50": GOAL_MS,
        },
    )


def understand(model_digest: str, number: int) -> tuple[PatternSpec, str]:
    """Return what the edge makes of the `number`th request."""
    request = PatternRequest(prompt=PROMPTS[number % len(PROMPTS)], seed=number)
    read = read_phrases(request.prompt)
    spec = resolve_spec(request, prompt=read.prompt, repeat=read.repeat, model_digest=model_digest)
    return spec, pattern_key(spec)


def draw(model: OnnxModel, model_digest: str, number: int) -> bytes:
    """Return one whole preview."""
    spec, key = understand(model_digest, number)
    return model.render(spec, key, SIZE_PX).webp


if __name__ == "__main__":
    main()
