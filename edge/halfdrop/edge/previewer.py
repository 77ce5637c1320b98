"""Drawing previews: ONNX Runtime, composition and WebP, in a bounded pool of threads off the event loop.

Prompts are not kept here and nothing is cached: the same call draws the same picture. A previewer draws with one model
for ever; another model is another previewer over the same queue, so that who began with one ends with it.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec
import numpy as np

from halfdrop.contracts.errors import Overloaded, PermanentError
from halfdrop.contracts.patterns import PatternSpec
from halfdrop.contracts.plates import Plates
from halfdrop.contracts.repeats import Repeat
from halfdrop.edge.picture_files import PictureForm, encode_file, encode_webp
from halfdrop.models.bundle import Bundle
from halfdrop.models.fields import choose_palette, decode_fields, fields_to_plates, tidy_fields
from halfdrop.models.hex_colours import known_names, read_hex
from halfdrop.models.house.reading import Reading, read_words
from halfdrop.models.house.sampling import Floats, draw_plates, open_session
from halfdrop.models.house.tokenizer import PAD, Tokenizer
from halfdrop.models.renderer import compose_tile
from halfdrop.runtime.durations import Durations
from halfdrop.runtime.semantics import generating
from halfdrop.runtime.tracing import OFF, Tracing

BUSY_SHARE = 0.5
"""From this share of the queue on pictures are answered small: half a second of waiting at 20 ms each."""

RESERVE_SHARE = 0.25
"""Room above the full queue for pictures of known plates: they take a few milliseconds less than the network alone."""

WARM_UP_PROMPT = "red dots on white"

T = TypeVar("T")

OnPlates = Callable[[Plates], None]
"""Given the plates of an intermediate state."""


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

        self.durations = Durations()
        """How long they took, once a thread was free."""

    @property
    def waiting(self) -> int:
        """Drawings under way or waiting for a thread."""
        return self._waiting

    @property
    def is_idle(self) -> bool:
        """True if nothing is being drawn or waits to be."""
        return self._waiting == 0

    @property
    def is_busy(self) -> bool:
        """True if so much is being drawn or waits that answers should cost less."""
        return self._waiting >= max(1.0, self._waiting_max * BUSY_SHARE)

    @property
    def reserve(self) -> int:
        """How many more may wait that cost little: pictures of known plates."""
        return math.ceil(self._waiting_max * RESERVE_SHARE)

    async def run(self, work: Callable[[], T], *, reserve: int = 0) -> T:
        """Return what `work` does in a thread. Raises Overloaded when too many wait already, and `reserve` more."""
        if self._waiting >= self._waiting_max + reserve:
            raise Overloaded(f"{self._waiting} previews are being drawn or wait already", retry_after_s=1.0)
        self._waiting += 1
        loop, began_s = asyncio.get_running_loop(), 0.0

        def timed() -> T:
            nonlocal began_s
            began_s = time.perf_counter()
            return work()

        def count_down(_: "Future[T]") -> None:
            elapsed_s = time.perf_counter() - began_s if began_s else None
            loop.call_soon_threadsafe(self._count_down, elapsed_s)

        future = self._pool.submit(timed)
        # Counted until the thread is done, not until the caller gives up: that is what the bound is about.
        future.add_done_callback(count_down)
        return await asyncio.wrap_future(future)

    def _count_down(self, elapsed_s: float | None) -> None:
        """One is over; after `elapsed_s` seconds of work, or None if every caller had left before it began."""
        self._waiting -= 1
        if elapsed_s is not None:
            self.drawn += 1
            self.durations.add(elapsed_s)


class OnnxPreviewer:
    """A house model on the CPU. Made by `open_previewer`, and by `load` of another one."""

    def __init__(self, model: "OnnxModel", queue: DrawingQueue, tracing: Tracing = OFF) -> None:
        self._model = model
        self.queue = queue
        self._tracing = tracing

    def read_words(self, prompt: str, *, may_be_empty: bool = False) -> Reading:
        """Return `prompt` in words that the model was taught."""
        return self._model.read_words(prompt, may_be_empty=may_be_empty)

    async def render(self, spec: PatternSpec, pattern_key: str, size_px: int) -> Drawing:
        """Draw the pattern and its preview. Raises Overloaded when too many wait already."""
        with self._tracing.span("draw", attributes=generating(self._model.name, spec.seed)):
            return await self.queue.run(lambda: self._model.render(spec, pattern_key, size_px))

    async def draw(self, spec: PatternSpec, pattern_key: str, *, on_state: OnPlates | None = None) -> Plates:
        """Draw the plates alone. Raises Overloaded when too many wait already.

        on_state is given, in this loop, the plates as the model sees them after each step but the last.
        """
        loop, tell = asyncio.get_running_loop(), on_state

        def tell_loop(plates: Plates) -> None:
            if tell is not None:
                loop.call_soon_threadsafe(tell, plates)

        with self._tracing.span("draw", attributes=generating(self._model.name, spec.seed)):
            return await self.queue.run(
                lambda: self._model.draw(spec, pattern_key, on_state=tell_loop if tell is not None else None)
            )

    async def compose(self, plates: Plates, repeat: Repeat, size_px: int) -> bytes:
        """Return the WebP of known plates. Raises Overloaded when even the reserve for these is used up."""
        with self._tracing.span("compose"):
            return await self.queue.run(lambda: compose_webp(plates, repeat, size_px), reserve=self.queue.reserve)

    async def compose_file(self, plates: Plates, spec: PatternSpec, form: PictureForm) -> bytes:
        """Return known plates as a file of this form. Raises Overloaded when too many wait already."""
        with self._tracing.span("compose"):
            return await self.queue.run(lambda: compose_file(plates, spec, form))

    async def compose_coarsely(self, plates: Plates, spec: PatternSpec, form: PictureForm, coarse_px: int) -> bytes:
        """Return the same, drawn `coarse_px` wide and enlarged. Raises Overloaded when too many wait already."""
        with self._tracing.span("compose"):
            return await self.queue.run(lambda: compose_file(plates, spec, form, coarse_px=coarse_px))

    def count_tokens(self, prompt: str) -> int:
        """Return how many words of `prompt`, in words that the model was taught, its text encoder reads."""
        return self._model.count_tokens(prompt)

    async def load(self, bundle: Bundle) -> "OnnxPreviewer":
        """Return a previewer of another model over the same queue, warmed. Raises what is wrong with the model."""
        # In a thread beside the pool: with one drawing thread, loading there would hold up every preview.
        return OnnxPreviewer(await asyncio.to_thread(load_warm, bundle), self.queue, self._tracing)


class OnnxModel:
    """Sessions and tokenizer of a bundle; its methods run in any thread, several at once.

    One pair of sessions serves all threads: with a single intra-op thread each run stays on the thread that calls.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.name = f"{bundle.name}-{bundle.version}"
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

    def count_tokens(self, prompt: str) -> int:
        return sum(number != PAD for number in self._tokenizer.encode(read_hex(prompt, self._colour_names)[0]))

    def draw(self, spec: PatternSpec, pattern_key: str, *, on_state: OnPlates | None = None) -> Plates:
        # 1. Words to numbers; exact colours go by the names of others.
        prompt, substitutions = read_hex(spec.prompt, self._colour_names)
        negative, _ = read_hex(spec.negative_prompt, self._colour_names)
        ids = self._tokenizer.encode(prompt)
        avoid = self._tokenizer.encode(negative) if negative else None

        # 2. Denoise a unit of this lattice: fields [4, 64, 64] in bands, palette [5, 3] in 0-1.
        def finish(fields: Floats, palette: Floats) -> Plates:
            # 3. Tidy, then round: what is stored is what every size shows.
            colours = choose_palette(palette, spec.palette, substitutions)
            fields = tidy_fields(fields)
            return fields_to_plates(fields, colours, pattern_key=pattern_key, model_digest=self._bundle_digest)

        fields, palette = draw_plates(
            self._text_encoder,
            self._denoiser,
            ids,
            spec.seed,
            steps=spec.num_inference_steps,
            negative_ids=avoid,
            guidance=spec.guidance_scale,
            repeat=spec.repeat,
            on_state=None if on_state is None else lambda *state: on_state(finish(*state)),
        )
        return finish(fields, palette)


def compose_webp(plates: Plates, repeat: Repeat, size_px: int) -> bytes:
    """Return the tile that holds `repeat.units` units in each direction, as WebP."""
    return encode_webp(compose_tile(decode_fields(plates), plates.palette, repeat, size_px))


def compose_file(plates: Plates, spec: PatternSpec, form: PictureForm, *, coarse_px: int | None = None) -> bytes:
    """Return the tile of a pattern as a file that says where it comes from.

    coarse_px: compose it this wide, a whole part of the form's size, and enlarge it: as quick as it is coarse.
    """
    drawn_px = coarse_px or form.size_px
    tile = compose_tile(decode_fields(plates), plates.palette, spec.repeat, drawn_px)
    if drawn_px != form.size_px:
        times = form.size_px // drawn_px
        tile = tile.repeat(times, axis=0).repeat(times, axis=1)
    return encode_file(tile, form, spec)


@asynccontextmanager
async def open_previewer(
    bundle: Bundle, *, threads: int, waiting_max: int, tracing: Tracing = OFF
) -> AsyncIterator[OnnxPreviewer]:
    """Load the model, draw one picture to warm it, and close the pool in the end; drawings begun are finished."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="preview")
    try:
        loop = asyncio.get_running_loop()
        # Nothing here may keep the model: it is freed when another replaces it and the last request with it has ended.
        yield OnnxPreviewer(
            await loop.run_in_executor(pool, load_warm, bundle), DrawingQueue(pool, waiting_max=waiting_max), tracing
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
