"""Batches: lines checked in a second, what somebody else's previews feel of it, and where plates should be drawn.

Another client asks for a picture that is cached and for one that must be drawn, by turns and one at a time, first on an
idle edge, then while batches of 10,000 lines are being accepted. `--plates` compares instead the plates that an edge
draws (INT8) with those that a hub would sample for an order without any, as pictures of 256 px: what a batch without
plates from the edge would make of "what you preview is what you get".
"""

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path

import httpx
from live import run_system
from measuring import percentile, report, summarise

LINES = 10_000
SAMPLES = 300
JSONL = {"content-type": "application/jsonl"}
PREVIEW_PX = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=LINES)
    parser.add_argument("--samples", type=int, default=SAMPLES, help="previews timed on an idle edge")
    parser.add_argument("--plates", type=int, default=0, metavar="PROMPTS", help="compare plates of so many prompts")
    arguments = parser.parse_args()
    if arguments.plates:
        report("batches_plates", compare_plates(arguments.plates))
    else:
        report("batches", asyncio.run(measure(arguments.lines, arguments.samples)))


async def measure(lines: int, samples: int) -> dict[str, object]:
    """Return lines a second, and the previews of another client with and without them."""
    with tempfile.TemporaryDirectory(prefix="halfdrop-bench-") as folder:
        async with run_system(Path(folder), has_hub=False) as system:
            url = system.edges[0].url
            async with httpx.AsyncClient(base_url=url, timeout=180) as client:
                await time_previews(client, 40, "warm")
                idle = await time_previews(client, samples, "idle")
                body = make_batch(lines)
                taken: list[float] = []
                accepting = asyncio.create_task(accept(url, body, taken))
                busy = await time_previews(client, 10**9, "busy", until=accepting)
                counts = accepting.result()
    figures: dict[str, object] = {
        "lines": lines,
        "body_mib": round(len(body) / 2**20, 2),
        "accept_s": round(percentile(taken, 0.5), 2),
        "lines_per_s": round(lines / percentile(taken, 0.5)),
        "refused": counts["refused"],
    }
    for name in ("hit", "drawn"):
        figures |= summarise(f"{name}_idle_ms", [s * 1e3 for s in idle[name]], digits=2)
        figures |= summarise(f"{name}_busy_ms", [s * 1e3 for s in busy[name]], digits=2)
        ratio = percentile(busy[name], 0.99) / percentile(idle[name], 0.99)
        figures[f"{name}_p99_ratio"] = round(ratio, 2)
    return figures


def make_batch(lines: int) -> bytes:
    """Return lines of different wording, every hundredth of them wrong."""
    colours = ("red", "navy", "forest green", "mustard", "coral", "teal", "black", "cream")
    motifs = ("polka dots", "vertical stripes", "hearts", "stars", "daisies", "paisley", "checkerboard")
    made = []
    for n in range(lines):
        prompt = f"{colours[n % 8]} {motifs[n % 7]} on {colours[(n // 8 + 3) % 8]}, half-drop"
        seed = -1 if n % 100 == 50 else n
        made.append(json.dumps({"custom_id": f"line{n}", "input": {"prompt": prompt, "seed": seed, "size_px": 2048}}))
    return "\n".join(made).encode()


async def accept(url: str, body: bytes, taken: list[float]) -> dict[str, int]:
    """Send the batch three times; each is canceled at once, so that what is felt is the checking."""
    async with httpx.AsyncClient(base_url=url, timeout=180) as client:
        for _ in range(3):
            began_s = time.perf_counter()
            answer = await client.post("/v1/batches", content=body, headers=JSONL)
            taken.append(time.perf_counter() - began_s)
            answer.raise_for_status()
            counts: dict[str, int] = answer.json()["counts"]
            (await client.post(answer.json()["urls"]["cancel"])).raise_for_status()
    return counts


async def time_previews(
    client: httpx.AsyncClient, count: int, run: str, *, until: "asyncio.Task[dict[str, int]] | None" = None
) -> dict[str, list[float]]:
    """Return how long pictures from the shelf and drawn ones took, until there are `count` or `until` is done."""
    taken: dict[str, list[float]] = {"hit": [], "drawn": []}
    shelved = (await client.post("/v1/previews", json={"prompt": "gold ogee on burgundy"})).headers["content-location"]
    for number in range(count):
        if until is not None and until.done():
            break
        began_s = time.perf_counter()
        (await client.get(shelved)).raise_for_status()
        between_s = time.perf_counter()
        body = {"prompt": f"small pink roses on white {run}", "seed": number}
        (await client.post("/v1/previews", json=body)).raise_for_status()
        taken["hit"].append(between_s - began_s)
        taken["drawn"].append(time.perf_counter() - between_s)
    return taken


def compare_plates(prompts: int) -> dict[str, object]:
    """Return the likeness of pictures from the edge's plates and from the hub's, of the same specs."""
    import torch  # noqa: PLC0415  seconds, for this one comparison

    from halfdrop.edge.previewer import load_warm  # noqa: PLC0415
    from halfdrop.edge.previews import understand_request  # noqa: PLC0415
    from halfdrop.edge.requests import PredictionInput  # noqa: PLC0415
    from halfdrop.hub.sampler import Sampler  # noqa: PLC0415
    from halfdrop.models.bundle import open_bundle, shipped_bundle_dir  # noqa: PLC0415
    from halfdrop.models.fields import decode_fields  # noqa: PLC0415
    from halfdrop.models.house.gates.similarity import ssim  # noqa: PLC0415
    from halfdrop.models.renderer import compose_tile  # noqa: PLC0415

    bundle = open_bundle(shipped_bundle_dir())
    model = load_warm(bundle)
    likeness, palettes, drawing_s = [], 0, []
    lines = [json.loads(line)["input"] for line in make_batch(prompts + 1).splitlines() if b'"seed": -1' not in line]
    with Sampler(bundle.directory, device="cpu", threads=torch.get_num_threads()) as sampler:
        for line in lines[:prompts]:
            request = PredictionInput(prompt=line["prompt"], seed=line["seed"])
            pattern = understand_request(request, model.read_words, model_digest=bundle.digest)
            began_s = time.perf_counter()
            previewed = model.draw(pattern.spec, pattern.key)
            drawing_s.append(time.perf_counter() - began_s)
            sampled = asyncio.run(sampler.draw(pattern.spec, on_step=lambda: None))
            pictures = [
                compose_tile(decode_fields(plates), plates.palette, pattern.spec.repeat, PREVIEW_PX)
                for plates in (previewed, sampled)
            ]
            likeness.append(ssim(*pictures))
            palettes += previewed.palette != sampled.palette
    return {
        "prompts": len(likeness),
        "ssim_p50": round(percentile(likeness, 0.5), 4),
        "ssim_worst": round(min(likeness), 4),
        "below_0_99": sum(value < 0.99 for value in likeness),
        "below_0_95": sum(value < 0.95 for value in likeness),
        "other_palettes": palettes,
        "edge_drawing_ms_p50": round(percentile(drawing_s, 0.5) * 1e3, 1),
    }


if __name__ == "__main__":
    main()
