"""What pictures of the progress cost a hub: `python bench/progress.py`.

The real sampler draws a pattern; each step's state is made a picture of, as the worker does at most every half second.
`picture_share` is the CPU time of one picture over that half second: what a job that is sampled for long pays.
"""

import asyncio
import time

from measuring import report, summarise

from halfdrop.contracts.jobs import Job
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.hub.progress_pictures import EVERY_S, draw_picture
from halfdrop.hub.sampler import Resumption, Sampler
from halfdrop.hub.saved_work import SamplerState, TakeState
from halfdrop.models.bundle import open_bundle, shipped_bundle_dir

STEPS = 50
GOAL = 0.05


async def main() -> None:
    digest = open_bundle(shipped_bundle_dir()).digest
    spec = PatternSpec(prompt="red polka dots on white", model_digest=digest, num_inference_steps=STEPS)
    job = Job(id="bench", origin="bench", spec=spec, size_px=1024, created_at=0.0)
    states: list[SamplerState] = []
    copies_ms: list[float] = []

    def keep(take: TakeState, _: int) -> None:
        began_s = time.thread_time()
        states.append(take())
        copies_ms.append((time.thread_time() - began_s) * 1000)

    with Sampler(shipped_bundle_dir(), device="cpu", threads=1) as sampler:
        await sampler.warm()
        await sampler.draw(spec, on_step=lambda: None, resumption=Resumption(keep=keep))
    pictures_ms, sizes = [], []
    for state, copy_ms in zip(states, copies_ms, strict=True):
        began_s = time.process_time()
        sizes.append(len(draw_picture(state, job)))
        pictures_ms.append((time.process_time() - began_s) * 1000 + copy_ms)
    figures = summarise("picture_cpu_ms", pictures_ms)
    report(
        "progress",
        {
            **figures,
            "picture_bytes_max": max(sizes),
            "picture_share": round(figures["picture_cpu_ms_p50"] / (EVERY_S * 1000), 4),
            "goal": GOAL,
        },
    )


if __name__ == "__main__":
    asyncio.run(main())
