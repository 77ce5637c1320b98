"""Models made warm before work comes: loaded, and drawn with once, so that the first job pays for none of it.

Loading alone is not warm: on CUDA the first drawing chooses kernels and fills the allocator, for a second or more.
"""

from collections.abc import Callable

import structlog

from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.contracts.plates import Plates
from halfdrop.hub.refining import PlateRefiner
from halfdrop.hub.sampler import Sampler

log = structlog.get_logger()

HOUSE, RENDER = "house", "house-render"
"""The sampler's model and the refiner's, by the names that metrics give them."""

WARM_PROMPT = "blue dots on white"
STEPS = 1
"""Every step runs the same kernels."""


class Warmth:
    """Which models of a worker's list are not warm yet, and why. Read by the health port's thread."""

    def __init__(self, wanted: tuple[str, ...]) -> None:
        self._missing = dict.fromkeys(wanted, "is still being loaded")

    def why(self) -> str:
        """Return what is missing, in words; empty if nothing is."""
        return "; ".join(f"model {name} {reason}" for name, reason in dict(self._missing).items())

    def done(self, name: str) -> None:
        self._missing.pop(name, None)

    def fail(self, name: str, reason: str) -> None:
        self._missing[name] = reason


async def warm_models(
    wanted: tuple[str, ...], warmth: Warmth, *, sampler: Sampler, refiner: PlateRefiner, digests: tuple[str, ...]
) -> None:
    """Warm the models that are wanted, one after the other, in that order; what fails is said in `warmth`.

    digests: of the bundles that the sampler can draw with.
    """
    drawn: Plates | None = None
    for name in wanted:
        try:
            if name == HOUSE:
                drawn = await _draw(sampler, digests)
            else:
                await _refine(refiner, drawn)
        except Exception as error:  # a bundle, a driver, no memory left: jobs that bring their plates are still done
            is_known = isinstance(error, PermanentError)
            log.warning("model_not_warm", model=name, error=str(error), exc_info=None if is_known else error)
            warmth.fail(name, f"cannot be used: {error}")
        else:
            warmth.done(name)
            log.info("model_warm", model=name)


async def _draw(sampler: Sampler, digests: tuple[str, ...]) -> Plates:
    if not digests:
        raise PermanentError("this worker has no bundle to sample with; see HALFDROP_HUB_BUNDLE_DIR", code="no-model")
    spec = PatternSpec(prompt=WARM_PROMPT, model_digest=digests[0], num_inference_steps=STEPS, guidance_scale=1.0)
    return await sampler.draw(spec, on_step=lambda: None)


async def _refine(refiner: PlateRefiner, drawn: Plates | None) -> None:
    await refiner.warm()
    if refiner.load_s is None:
        raise PermanentError("it could not be loaded, or HALFDROP_HUB_REFINE is off", code="no-model")
    if drawn is not None:
        spec = PatternSpec(prompt=WARM_PROMPT, model_digest=drawn.model_digest)
        await refiner.refine(drawn, spec)


def readiness(
    warmth: Warmth, *, is_bound: Callable[[], bool], is_connected: Callable[[], bool], is_stopping: Callable[[], bool]
) -> str:
    """Return why a worker is not ready, in words; empty if it takes jobs, with every model of its list warm."""
    if is_stopping():
        return "it is stopping"
    if not is_connected():
        return "its NATS server does not answer"
    if not is_bound():
        return "it does not take jobs yet"
    return warmth.why()
