"""What the engine does against plain diffusers: `python bench/engine.py` prints one JSON object as its last line.

Both sides draw the same mixed stream on the same device: the shipped house model with 1 to 4 steps, some jobs guided,
on three lattices (`house`; `house-bf16`: the engine in bfloat16 against the same plain float32); and (`sd`) a
checkpoint of SD 1.5's layout with random weights, smaller by far, in two sizes. Plain diffusers is the pipeline's own
`__call__`, one job at a time in the order of arrival, with one of torch's threads; `--plain-threads 1 2` tries more and
compares with the best, but on a busy machine torch's threads wait for each other for minutes. Sides take turns in short
parts, so that what else the machine does falls on both.

- `throughput_vs_diffusers`: wall time of a backlog, plain over engine; `cpu_vs_diffusers` the same in CPU seconds.
- `p95_vs_diffusers`: 95th percentile of the time from arrival to result, engine over plain, arrivals at random at
  `--load` of what plain diffusers can do.
- `batch_changes_image`: 1 if any job's result differs by a bit from the one that it has alone.
- `floor_ratio`: CPU seconds of the engine over the floor: the networks' FLOPs by torch's counter over the peak of one
  core in a large float32 product, measured in CPU seconds too.
- `cycles_growth_mib` (`--cycles 200`): resident memory that grew from the tenth to the last load and eviction.
"""

import argparse
import contextlib
import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from measuring import percentile, report, resident_mib
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.checkpoints.drawing import Checkpoint, load_checkpoint
from halfdrop.hub.checkpoints.layout import check_layout
from halfdrop.hub.engine.asks import HouseAsk, UnitAsk
from halfdrop.hub.engine.diffusion import CheckpointModel
from halfdrop.hub.engine.house import HouseModel
from halfdrop.hub.engine.limits import Limits
from halfdrop.hub.engine.pool import Loadable, ModelPool
from halfdrop.hub.engine.running import Engine
from halfdrop.hub.engine.seams import Order
from halfdrop.hub.pipeline import HousePipeline
from halfdrop.models.bundle import shipped_bundle_dir

MODELS = ("house", "house-bf16", "sd")
ROWS_MAX = 8
PEAK_SIDE = 1536
LATTICES = (Repeat(), Repeat(layout="half-drop"), Repeat(layout="brick"))
PROMPTS = ("red polka dots on white", "navy stripes on cream", "teal paisley", "gold ogee on burgundy", "green leaves")


@dataclass(frozen=True)
class Side:
    """One of the two: what draws a job, and how many of torch's threads it wants."""

    model: Any
    plain: Callable[[Any], Any]


def house_side(threads: int, dtype: torch.dtype = torch.float32) -> tuple[Side, Callable[[random.Random], HouseAsk]]:
    """Return the shipped house model, loaded once for each side, and what makes jobs for it."""
    pipeline = HousePipeline.from_pretrained(shipped_bundle_dir())
    engines = HousePipeline.from_pretrained(shipped_bundle_dir(), torch_dtype=dtype)
    model = HouseModel(engines, "house", threads=threads)

    def plain(ask: HouseAsk) -> Any:
        fields, palettes = pipeline(
            [ask.prompt],
            seeds=[ask.seed],
            repeats=[ask.repeat],
            negative_prompts=[ask.negative_prompt] if ask.negative_prompt else None,
            guidance_scale=ask.guidance_scale,
            num_inference_steps=ask.num_inference_steps,
        )
        return fields[0], palettes[0]

    def make(chance: random.Random) -> HouseAsk:
        is_guided = chance.random() < 0.25
        return HouseAsk(
            prompt=chance.choice(PROMPTS),
            negative_prompt="dots" if is_guided else "",
            guidance_scale=1.5 if is_guided else 0.0,
            seed=chance.randrange(2**32),
            repeat=chance.choice(LATTICES),
            num_inference_steps=chance.choice((1, 2, 2, 2, 4)),
        )

    return Side(model, plain), make


def sd_side(threads: int, folder: Path) -> tuple[Side, Callable[[random.Random], UnitAsk]]:
    """Return a checkpoint of SD 1.5's layout with random weights, and what makes jobs for it."""
    write_checkpoint(folder)
    one, other = (load_checkpoint(check_layout(folder), "cpu") for _ in range(2))
    model = CheckpointModel(one, "sd", threads=threads)

    def plain(ask: UnitAsk) -> Any:
        return draw_plain(other, ask)

    def make(chance: random.Random) -> UnitAsk:
        return UnitAsk(
            prompt=chance.choice(PROMPTS),
            size_px=chance.choice((64, 64, 128)),
            seed=chance.randrange(2**32),
            guidance_scale=chance.choice((1.0, 5.0, 7.0)),
            num_inference_steps=chance.choice((2, 3, 4)),
        )

    return Side(model, plain), make


def draw_plain(checkpoint: Checkpoint, ask: UnitAsk) -> Any:
    """Draw one unit with diffusers' own pipeline."""
    [unit] = checkpoint.draw(
        [ask.prompt], [ask.seed], ask.repeat, ask.size_px,
        guidance_scale=ask.guidance_scale, num_inference_steps=ask.num_inference_steps,
    )  # fmt: skip
    return unit


def write_checkpoint(folder: Path) -> None:
    """Write a checkpoint of SD 1.5's layout: 1/8 of its channels, random weights."""
    torch.manual_seed(1)
    (folder / "made").mkdir(parents=True)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "made" / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}))
    (folder / "made" / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(
        str(folder / "made" / "vocab.json"), str(folder / "made" / "merges.txt"), model_max_length=77
    )
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=96, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(16, 32, 64, 64), down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4, latent_channels=4, layers_per_block=1, norm_num_groups=8,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            sample_size=16, block_out_channels=(40, 80, 160, 160), layers_per_block=2, cross_attention_dim=96,
            attention_head_dim=8, norm_num_groups=8,
        ),
        scheduler=PNDMScheduler(beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    for file in (folder / "made").iterdir():
        file.unlink()
    (folder / "made").rmdir()


@contextlib.contextmanager
def running_engine(model: Any) -> Any:
    """An engine over one loaded model."""
    name = model.digest
    pool = ModelPool(
        lambda digest: Loadable(digest=digest, name=name, size_bytes=1, load=lambda: model), budget_bytes=2**40
    )
    engine = Engine(pool, Limits(ROWS_MAX))
    pool.on_change = engine.wake
    with engine:
        pool.preload(name).result(60)
        yield engine


def run_backlog(engine: Engine, asks: Sequence[Any], name: str) -> list[Any]:
    """Give the engine all jobs at once; return their results."""
    jobs = [engine.submit(Order(model=name, ask=ask)) for ask in asks]
    return [job.future.result(600) for job in jobs]


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return wall and CPU seconds of this process, and the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def latencies_of_plain(plain: Callable[[Any], Any], asks: Sequence[Any], arrivals: Sequence[float]) -> list[float]:
    """Serve jobs first come, first served; return the seconds from each arrival to its result."""
    began, found = time.perf_counter(), []
    for ask, arrival in zip(asks, arrivals, strict=True):
        time.sleep(max(0.0, arrival - (time.perf_counter() - began)))
        plain(ask)
        found.append(time.perf_counter() - began - arrival)
    return found


def latencies_of_engine(engine: Engine, asks: Sequence[Any], arrivals: Sequence[float], name: str) -> list[float]:
    """Submit jobs as they arrive; return the seconds from each arrival to its result."""
    began = time.perf_counter()
    found = [0.0] * len(asks)
    ends = []
    for place, (ask, arrival) in enumerate(zip(asks, arrivals, strict=True)):
        time.sleep(max(0.0, arrival - (time.perf_counter() - began)))
        done = threading.Event()

        def note(_: Any, place: int = place, arrival: float = arrival, done: threading.Event = done) -> None:
            found[place] = time.perf_counter() - began - arrival
            done.set()

        engine.submit(Order(model=name, ask=ask)).future.add_done_callback(note)
        ends.append(done)
    for done in ends:
        done.wait(600)
    return found


def core_peak_flops() -> float:
    """Return the FLOPs of one core in a second of CPU time: the best of several large products."""
    torch.set_num_threads(1)
    side = torch.randn(PEAK_SIDE, PEAK_SIDE)
    return max(2 * PEAK_SIDE**3 / timed(lambda: side @ side)[1] for _ in range(6))


def equal(one: Any, other: Any) -> bool:
    pairs = zip(one, other, strict=False) if isinstance(one, tuple) else [(one, other)]
    return all(np.array_equal(a, b) for a, b in pairs if isinstance(a, np.ndarray))


def measure(side: Side, make: Callable[[random.Random], Any], options: argparse.Namespace) -> dict[str, object]:
    """Compare the two sides on one model."""
    chance, name = random.Random(options.seed), side.model.digest
    parts = [[make(chance) for _ in range(options.jobs)] for _ in range(options.parts)]
    walls: dict[str, float] = {"engine": 0.0}
    cpus: dict[str, float] = {"engine": 0.0}
    changed = differs_from_plain = 0
    plain_threads = sorted({1, *options.plain_threads})
    p95s: dict[str, list[float]] = {"engine": [], "plain": []}
    with running_engine(side.model) as engine:
        run_backlog(engine, parts[0][:4], name)
        side.plain(parts[0][0])
        # 1. a backlog, in parts by turns
        results: list[Any] = []
        plains: list[Any] = []
        for asks in parts:
            torch.set_num_threads(1)
            wall, cpu, found = timed(lambda asks=asks: run_backlog(engine, asks, name))
            walls["engine"] += wall
            cpus["engine"] += cpu
            results += found
            for threads in plain_threads:
                torch.set_num_threads(threads)
                wall, cpu, found = timed(lambda asks=asks: [side.plain(ask) for ask in asks])
                key = f"plain_{threads}_threads"
                walls[key] = walls.get(key, 0.0) + wall
                cpus[key] = cpus.get(key, 0.0) + cpu
            plains += found
        torch.set_num_threads(1)
        asks = [ask for part in parts for ask in part]
        best = min((key for key in walls if key != "engine"), key=walls.__getitem__)
        # 2. does a batch change an image
        for ask, together, plain in list(zip(asks, results, plains, strict=True))[: options.checked]:
            changed += not equal(run_backlog(engine, [ask], name)[0], together)
            differs_from_plain += not equal(together, plain)
        # 3. the floor
        with FlopCounterMode(display=False) as counter:
            for ask in asks[: options.checked]:
                draw_alone(side.model, ask)
        flops = counter.get_total_flops() * len(asks) / options.checked
        # 4. arrivals, by turns
        job_s = walls[best] / len(asks)
        for number in range(options.parts):
            asks = parts[number]
            arrivals = list(np.cumsum([chance.expovariate(options.load / job_s) for _ in asks]))
            torch.set_num_threads(int(best.split("_")[1]))
            p95s["plain"] += latencies_of_plain(side.plain, asks, arrivals)
            torch.set_num_threads(1)
            p95s["engine"] += latencies_of_engine(engine, asks, arrivals, name)
        counters = engine.counters
    peak = core_peak_flops()
    p95 = {key: percentile(values, 0.95) for key, values in p95s.items()}
    return {
        "throughput_vs_diffusers": round(walls[best] / walls["engine"], 3),
        "cpu_vs_diffusers": round(cpus["plain_1_threads"] / cpus["engine"], 3),
        "p95_vs_diffusers": round(p95["engine"] / p95["plain"], 3),
        "batch_changes_image": int(changed > 0),
        "differs_from_plain": differs_from_plain,
        "floor_ratio": round(cpus["engine"] / (flops / peak), 2),
        "best_plain": best,
        "seconds_per_job": {key: round(value / (options.jobs * options.parts), 4) for key, value in walls.items()},
        "cpu_seconds_per_job": {key: round(value / (options.jobs * options.parts), 4) for key, value in cpus.items()},
        "p95_s": {key: round(value, 3) for key, value in p95.items()},
        "p50_s": {key: round(percentile(values, 0.5), 3) for key, values in p95s.items()},
        "gflops_per_job": round(flops / len(results) / 1e9, 2),
        "core_peak_gflops": round(peak / 1e9, 1),
        "jobs": len(results),
        "jobs_per_round": round(counters.steps / counters.rounds, 2),
    }


def draw_alone(model: Any, ask: Any) -> None:
    """Draw in this thread: the counter of FLOPs sees no other."""
    threads, model._rows.threads = model._rows.threads, 1
    pool, model._rows._pool = model._rows._pool, None
    try:
        model.enter(model.group_of(ask))
        state = model.begin(ask)
        while state.step < state.steps:
            model.advance(state, model.predict([state])[0])
        model.finish(state)
    finally:
        model._rows.threads, model._rows._pool = threads, pool


def cycle_models(cycles: int) -> dict[str, object]:
    """Load and evict models by turns; return how much memory was not given back."""

    def load(digest: str) -> HouseModel:
        return HouseModel(HousePipeline.from_pretrained(shipped_bundle_dir()), digest, threads=2)

    def find(digest: str) -> Loadable:
        return Loadable(digest=digest, name=digest, size_bytes=2**20, load=lambda: load(digest))

    pool = ModelPool(find, budget_bytes=2**20)
    engine = Engine(pool, Limits(ROWS_MAX))
    pool.on_change = engine.wake
    resident = []
    with engine, pool:
        for number in range(cycles):
            ask = HouseAsk(prompt="red dots", seed=number, num_inference_steps=1)
            engine.submit(Order(model=f"m{number % 2}", ask=ask)).future.result(60)
            resident.append(resident_mib(os.getpid()))
    assert pool.counters.loads == cycles
    return {"cycles": cycles, "cycles_growth_mib": round(resident[-1] - resident[min(9, cycles - 1)], 1)}


def main(options: argparse.Namespace) -> None:
    """Measure each model that is asked for."""
    found: dict[str, dict[str, object]] = {}
    cycled = cycle_models(options.cycles) if options.cycles else {}
    print(cycled, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            if name == "sd":
                side, make = sd_side(options.threads, Path(folder) / name)
            else:
                side, make = house_side(options.threads, torch.bfloat16 if name == "house-bf16" else torch.float32)
            found[name] = measure(side, make, options)
            print(name, json.dumps(found[name]), flush=True)
    keys = ("throughput_vs_diffusers", "p95_vs_diffusers", "batch_changes_image", "floor_ratio")
    first = found[options.models[0]]
    report(
        "engine",
        {
            **{key: first[key] for key in keys},
            **cycled,
            "model": options.models[0],
            "threads": options.threads,
            "models": found,
        },
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--jobs", type=int, default=12, help="in each part")
    parser.add_argument("--parts", type=int, default=4)
    parser.add_argument("--checked", type=int, default=8, help="jobs drawn once more alone, and counted")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plain-threads", type=int, nargs="+", default=[1])
    parser.add_argument("--cycles", type=int, default=60, help="of loading and evicting; 0: none")
    parser.add_argument("--load", type=float, default=0.8, help="of what plain diffusers can do")
    parser.add_argument("--seed", type=int, default=7)
    main(parser.parse_args())
