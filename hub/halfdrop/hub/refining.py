"""The refiner at hand: draws a preview's plates exactly, on a finer grid, before any file is made of them.

Loaded when first needed or warmed in the background, in one thread of its own. A hub without a refiner, or with one
that cannot be loaded, finishes the plates as they were previewed: a coarser master is better than none.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import structlog

from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.contracts.plates import Plates
from halfdrop.hub.reporting import Report
from halfdrop.models.bundle import MANIFEST_NAME, open_bundle
from halfdrop.models.fields import Fields, decode_fields

if TYPE_CHECKING:
    from halfdrop.models.house.refining import Refined, Refiner

log = structlog.get_logger()


class PlateRefiner:
    """Refines the plates of one model, one unit at a time. Close it (`with`) to end its thread."""

    def __init__(
        self, refiner_dir: Path, model_dir: Path, *, device: Literal["auto", "cpu", "cuda"], enabled: bool = True
    ) -> None:
        self._refiner_dir = refiner_dir
        self._model_dir = model_dir
        self._device = device
        self.device = "cpu"
        """Where it refines: "cpu" or "cuda", known once it is loaded."""

        self._is_there = enabled and (refiner_dir / MANIFEST_NAME).exists()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="refiner")
        self._model_digest: str | None = None
        self._loaded: Refiner | None = None
        self.load_s: float | None = None
        """How long loading took; None before."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def warm(self) -> None:
        """Load everything that the first unit needs; whatever is wrong is logged, and plates stay unrefined."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._load)

    async def refine(self, plates: Plates, spec: PatternSpec) -> "tuple[Refined, str] | None":
        """Return the unit on a finer grid and the refiner's digest; None for plates of a model that it does not know,
        and where there is no refiner."""
        if not self._is_there:
            return None
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._refine, plates, spec)

    def _refine(self, plates: Plates, spec: PatternSpec) -> "tuple[Refined, str] | None":
        refiner = self._load()
        if refiner is None or plates.model_digest != self._model_digest:
            return None
        return refiner.refine_layers(decode_fields(plates), spec.prompt, spec.repeat), refiner.bundle.digest

    def _load(self) -> "Refiner | None":
        if self._loaded is None and self._is_there:
            try:
                began_s = time.perf_counter()
                self._model_digest = open_bundle(self._model_dir).digest
                import torch  # noqa: PLC0415  seconds: not before something must be refined

                from halfdrop.models.house.refining import open_refiner  # noqa: PLC0415

                wants_cuda = self._device == "cuda" or (self._device == "auto" and torch.cuda.is_available())
                self.device = "cuda" if wants_cuda else "cpu"
                self._loaded = open_refiner(self._refiner_dir).to(self.device)
                self.load_s = time.perf_counter() - began_s
                log.info("refiner_loaded", digest=self._loaded.bundle.digest)
            except PermanentError as error:
                self._is_there = False
                log.error("refiner_unavailable", error=error.detail)
            except Exception:
                self._is_there = False
                log.exception("refiner_unavailable")
        return self._loaded


async def refine(plates: Plates, spec: PatternSpec, *, refiner: PlateRefiner, report: Report) -> Fields:
    """Return the fields that the job's files are made of: refined, or as they were previewed; the job's log says which.

    The plates themselves stay as they are: what travels and what is stored is the preview.
    """
    with report.stage("refining"):
        outcome = await refiner.refine(plates, spec)
    if outcome is None:
        report.note("layers: as previewed")
        return decode_fields(plates)
    refined, digest = outcome
    report.note(f"layers refined: {_numbers(refined.refined)}; kept as previewed: {_numbers(refined.kept)}")
    if not refined.refined:
        return decode_fields(plates)
    report.name_refiner(digest)
    return refined.fields


def _numbers(layers: tuple[int, ...]) -> str:
    """Return layers by their place in the palette, as their files are named."""
    return ", ".join(str(layer + 1) for layer in layers) or "none"
