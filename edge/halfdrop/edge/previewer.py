"""Drawing previews: ONNX Runtime, composition and WebP, in a bounded pool of threads off the event loop.

Prompts are not kept here and nothing is cached: the same call draws the same picture. A previewer draws with one model
for ever; another model is another previewer over the same queue, so that who began with one ends with it.
"""

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec
import numpy as np
from PIL import Image

from halfdrop.contracts.errors import Overloaded, PermanentError
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.contracts.plates import Plates
from halfdrop.contracts.repeats import Repeat
from halfdrop.models.bundle import Bundle
from halfdrop.models.fields import choose_palette, decode_fields, fields_to_plates, tidy_fields
from halfdrop.models.hex_colours import known_names, read_hex
from halfdrop.models.house.reading import Reading, read_words
from halfdrop.models.house.sampling import draw_plates, open_session
from halfdrop.models.house.tokenizer import Tokenizer
from halfdrop.models.renderer import Bytes, compose_tile

WEBP_METHOD, WEBP_EFFORT = 0, 30
"""Lossless, because a pattern is a few flat spot colours: exact to the last pixel, a third to a seventh of the bytes
of quality 85, and quicker (0.7 to 1.4 CPU-ms against 1.4 to 2.8 at 256 px). Method 1 with this effort would take 2.5
times as long for 4.8 KB instead of 8.3; without it, below 26, it is slower and larger than this."""

WARM_UP_PROMPT = "red dots on white"

T = TypeVar("T")


class Drawing(msgspec.Struct, frozen=True, kw_only=True):
    """A preview and the plates it shows."""

    plates: Plates
    webp: bytes


class DrawingQueue:
    """The threads that draw and the bound on what waits for them, whatever model it is drawn with."""

    def __init__(self, pool: ThreadPoolExecutor, *, waiting_max: int) -> None:
        self._pool = pool
        self._waiting_max = waiting_max
        self._waiting = 0
        self.drawn = 0
        """Patterns and pictures drawn since the start."""

    @property
    def is_idle(self) -> bool:
        """True if nothing is being drawn or waits to be."""
        return self._waiting == 0

    async def run(self, work: Callable[[], T]) -> T:
        """Return what `work` does in a thread. Raises Overloaded when too many wait already."""
        if self._waiting >= self._waiting_max:
            raise Overloaded(f"{self._waiting} previews are being drawn or wait already", retry_after_s=1.0)
        self._waiting += 1
        future = self._pool.submit(work)
        # Counted until the thread is done, not until the caller gives up: that is what the bound is about.
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._count_down))
        return await asyncio.wrap_future(future)

    def _count_down(self) -> None:
        self._waiting -= 1
        self.drawn += 1


class OnnxPreviewer:
    """A house model on the CPU. Made by `open_previewer`, and by `load` of another one."""

    def __init__(self, model: "OnnxModel", queue: DrawingQueue) -> None:
        self._model = model
        self.queue = queue

    @property
    def drawn(self) -> int:
        """Patterns and pictures drawn since the start, with any model."""
        return self.queue.drawn

    def read_words(self, prompt: str, *, may_be_empty: bool = False) -> Reading:
        """Return `prompt` in words that the model was taught."""
        return self._model.read_words(prompt, may_be_empty=may_be_empty)

    async def render(self, spec: PatternSpec, pattern_key: str, size_px: int) -> Drawing:
        """Draw the pattern and its preview. Raises Overloaded when too many wait already."""
        return await self.queue.run(lambda: self._model.render(spec, pattern_key, size_px))

    async def draw(self, spec: PatternSpec, pattern_key: str) -> Plates:
        """Draw the plates alone. Raises Overloaded when too many wait already."""
        return await self.queue.run(lambda: self._model.draw(spec, pattern_key))

    async def compose(self, plates: Plates, repeat: Repeat, size_px: int) -> bytes:
        """Return the WebP of known plates. Raises Overloaded when too many wait already."""
        return await self.queue.run(lambda: compose_webp(plates, repeat, size_px))

    async def load(self, bundle: Bundle) -> "OnnxPreviewer":
        """Return a previewer of another model over the same queue, warmed. Raises what is wrong with the model."""
        # In a thread beside the pool: with one drawing thread, loading there would hold up every preview.
        return OnnxPreviewer(await asyncio.to_thread(load_warm, bundle), self.queue)


class OnnxModel:
    """Sessions and tokenizer of a bundle; its methods run in any thread, several at once.

    One pair of sessions serves all threads: with a single intra-op thread each run stays on the thread that calls.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle_digest = bundle.digest
        self._tokenizer = Tokenizer.load(bundle.directory / "tokenizer" / "vocab.json")
        self._colour_names = known_names(self._tokenizer)
        self._text_encoder = open_session(bundle.directory / "onnx" / "text_encoder.onnx")
        self._denoiser = open_session(bundle.directory / "onnx" / "denoiser.onnx")

    def read_words(self, prompt: str, *, may_be_empty: bool) -> Reading:
        return read_words(prompt, self._tokenizer, may_be_empty=may_be_empty)

    def render(self, spec: PatternSpec, pattern_key: str, size_px: int) -> Drawing:
        plates = self.draw(spec, pattern_key)
        return Drawing(plates=plates, webp=compose_webp(plates, spec.repeat, size_px))

    def draw(self, spec: PatternSpec, pattern_key: str) -> Plates:
        # 1. Words to numbers; exact colours go by the names of others.
        prompt, substitutions = read_hex(spec.prompt, self._colour_names)
        negative, _ = read_hex(spec.negative_prompt, self._colour_names)
        ids = self._tokenizer.encode(prompt)
        avoid = self._tokenizer.encode(negative) if negative else None
        # 2. Denoise a unit of this lattice: fields [4, 64, 64] in bands, palette [5, 3] in 0-1.
        fields, palette = draw_plates(
            self._text_encoder,
            self._denoiser,
            ids,
            spec.seed,
            steps=spec.num_inference_steps,
            negative_ids=avoid,
            guidance=spec.guidance_scale,
            repeat=spec.repeat,
        )
        # 3. Tidy, then round: what is stored is what every size shows.
        colours = choose_palette(palette, spec.palette, substitutions)
        return fields_to_plates(tidy_fields(fields), colours, pattern_key=pattern_key, model_digest=self._bundle_digest)


def compose_webp(plates: Plates, repeat: Repeat, size_px: int) -> bytes:
    """Return the tile that holds `repeat.units` units in each direction, as WebP."""
    return encode_webp(compose_tile(decode_fields(plates), plates.palette, repeat, size_px))


def encode_webp(tile: Bytes) -> bytes:
    """Return a tile [size, size, 3] as lossless WebP."""
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, "WEBP", lossless=True, quality=WEBP_EFFORT, method=WEBP_METHOD)
    return buffer.getvalue()


@asynccontextmanager
async def open_previewer(bundle: Bundle, *, threads: int, waiting_max: int) -> AsyncIterator[OnnxPreviewer]:
    """Load the model, draw one picture to warm it, and close the pool in the end; drawings begun are finished."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="preview")
    try:
        loop = asyncio.get_running_loop()
        # Nothing here may keep the model: it is freed when another replaces it and the last request with it has ended.
        yield OnnxPreviewer(
            await loop.run_in_executor(pool, load_warm, bundle), DrawingQueue(pool, waiting_max=waiting_max)
        )
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def load_warm(bundle: Bundle) -> OnnxModel:
    """Return the bundle's model after it has drawn one picture. Raises PermanentError(bad-model) if it cannot."""
    try:
        model = OnnxModel(bundle)
        spec = PatternSpec(prompt=WARM_UP_PROMPT, repeat=Repeat().normalise(), model_digest=bundle.digest)
        drawing = model.render(spec, "0" * 32, 256)
    except Exception as error:  # whatever the runtime raises for a graph that is none, or other inputs and outputs
        detail = f"model bundle {bundle.directory}: it does not draw {WARM_UP_PROMPT!r} ({error})"
        raise PermanentError(" ".join(detail.split()), code="bad-model") from error
    if not np.any(decode_fields(drawing.plates) > 0):
        raise PermanentError(f"model bundle {bundle.directory}: {WARM_UP_PROMPT!r} comes out blank", code="bad-model")
    return model
