"""The low-latency path: a request becomes a spec, a key, plates and a picture, each made once and kept.

Spec and plates are in the object store before anybody hears of their key, so that a key, once given out, can be
drawn again at any size by any edge. When the store is away the preview is still answered: the plates are in the faster
tiers, travel with the order, and are written to the store once it is back. A key that nothing has is unknown only if
the store says so; while it is away, nobody can tell.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
import structlog

from halfdrop.cache.guard import Absence
from halfdrop.cache.tiered import FILL, Found
from halfdrop.contracts.errors import InvalidInput, NotFound, Unavailable
from halfdrop.contracts.patterns import (
    PatternRequest,
    PatternSpec,
    Wording,
    canonical_bytes,
    is_pattern_key,
    normalise_prompt,
    pattern_key,
    resolve_spec,
)
from halfdrop.contracts.plates import Plates, decode_plates, encode_plates
from halfdrop.edge.names import picture_key, plates_key, spec_key
from halfdrop.edge.picture_files import PictureForm
from halfdrop.edge.previewer import OnnxPreviewer, OnPlates
from halfdrop.models.bundle import Bundle
from halfdrop.models.hex_colours import spell_hex
from halfdrop.models.house.reading import Reading, affirm
from halfdrop.models.phrases import read_phrases

log = structlog.get_logger()


SMALL_PX = 128
"""Side of a picture that is answered in place of a larger one while too much is being drawn."""

UNKNOWN_RETRY_S = 2.0
"""When to ask again for a key that nobody can look up: the end of an outage is noticed within a second."""


class Pattern(msgspec.Struct, frozen=True, kw_only=True):
    """A request, understood."""

    spec: PatternSpec
    key: str
    wording: Wording


class ReadWords(Protocol):
    """What a model offers to read words as those it knows: `OnnxPreviewer.read_words`, `OnnxModel.read_words`."""

    def __call__(self, prompt: str, *, may_be_empty: bool) -> Reading: ...


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """A preview to send, and where it came from: a tier's name, or "fill" for drawn just now."""

    key: str
    size_px: int
    webp: bytes
    source: str

    @property
    def is_hit(self) -> bool:
        return self.source != FILL


class _TooBusy(Exception):
    """The picture would cost too much now: whoever waits for it is answered with a small one."""


class PatternCache(Protocol):
    """What previews ask of a cache: the whole `TieredCache`, or one tenant's part of it."""

    async def get(self, key: str) -> Found | None: ...
    async def look(self, key: str) -> Found | Absence: ...
    async def get_or_fill(self, key: str, fill: Callable[[], Awaitable[bytes]]) -> Found: ...
    async def keep(self, key: str, data: bytes) -> bool: ...


class Previews:
    """Patterns by key: understood, drawn, cached and stored."""

    def __init__(self, *, bundle: Bundle, previewer: OnnxPreviewer, cache: PatternCache) -> None:
        self._bundle = bundle
        self._previewer = previewer
        self._cache = cache

    @property
    def drawn(self) -> int:
        """Times that something was drawn since the start."""
        return self._previewer.queue.drawn

    def understand(self, request: PatternRequest) -> Pattern:
        """Return the pattern that `request` means. Raises InvalidInput for anything outside the limits."""
        self.check_model("model", request.model)
        return understand_request(request, self._previewer.read_words, model_digest=self._bundle.digest)

    def answers_to(self, model: str) -> bool:
        """True if `model` means the bundle that this edge has."""
        return self._bundle.answers_to(model)

    @property
    def names(self) -> str:
        """What the edge's bundle may be called."""
        return f'"{self._bundle.name}", "{self._bundle.name}-{self._bundle.version}" or "{self._bundle.digest}"'

    @property
    def model_name(self) -> str:
        """The name of the edge's bundle."""
        return self._bundle.name

    def check_model(self, field: str, model: str) -> None:
        """Raise InvalidInput unless `model` means the bundle that this edge has."""
        if not self.answers_to(model):
            raise InvalidInput(field, got=model, allowed=self.names)

    async def preview_pattern(self, pattern: Pattern, size_px: int) -> Picture:
        """Return the picture, drawn if no tier has it; smaller than asked for while much is being drawn.

        Raises Overloaded when too many are being drawn.
        """
        try:
            return await self._preview(pattern, size_px)
        except _TooBusy:
            return await self._preview(pattern, SMALL_PX)

    async def _preview(self, pattern: Pattern, size_px: int) -> Picture:
        async def draw() -> bytes:
            plates = await self._cache.get(plates_key(pattern.key))
            # Decided right before the drawing: no tier has the picture, and nobody is making it.
            if size_px > SMALL_PX and self._previewer.queue.is_busy:
                raise _TooBusy
            if plates is not None:
                return await self._previewer.compose(decode_plates(plates.data), pattern.spec.repeat, size_px)
            drawing = await self._previewer.render(pattern.spec, pattern.key, size_px)
            await self._keep(pattern, encode_plates(drawing.plates))
            return drawing.webp

        found = await self._cache.get_or_fill(picture_key(pattern.key, size_px), draw)
        return _picture(pattern.key, size_px, found)

    async def find_picture(self, key: str, size_px: int) -> Picture:
        """Return the picture of a pattern known by its key alone.

        Raises NotFound for a key never given out, Unavailable if that cannot be known now.
        """
        _check_key(key)
        found = await self._cache.look(picture_key(key, size_px))
        if isinstance(found, Found):
            return _picture(key, size_px, found)
        return await self.preview_pattern(await self._find_known(key), size_px)

    async def find_file(self, key: str, form: PictureForm) -> bytes:
        """Return the picture of a pattern known by its key alone, as a file. Raises as `find_picture`."""
        _check_key(key)
        known = await self._find_known(key)
        return await self.compose_file(known, await self.plates(known), form)

    async def compose_file(self, pattern: Pattern, plates: Plates, form: PictureForm) -> bytes:
        """Return the pattern, whose plates these are, as a file. Raises Overloaded when too many are being drawn."""
        return await self._previewer.compose_file(plates, pattern.spec, form)

    async def compose_coarsely(self, pattern: Pattern, plates: Plates, form: PictureForm, coarse_px: int) -> bytes:
        """Return the same, drawn `coarse_px` wide and enlarged. Raises Overloaded when too many are being drawn."""
        return await self._previewer.compose_coarsely(plates, pattern.spec, form, coarse_px)

    def count_tokens(self, pattern: Pattern) -> int:
        """Return how many words of the prompt the model reads."""
        return self._previewer.count_tokens(pattern.spec.prompt)

    async def plates(self, pattern: Pattern, *, on_state: OnPlates | None = None) -> Plates:
        """Return the pattern's plates, drawn if no tier has them. Raises Overloaded when too many are being drawn.

        on_state is given what the model sees between its steps; nothing where nothing is drawn for this very call.
        """

        async def draw() -> bytes:
            encoded = encode_plates(await self._previewer.draw(pattern.spec, pattern.key, on_state=on_state))
            await self._keep(pattern, encoded)
            return encoded

        return decode_plates((await self._cache.get_or_fill(plates_key(pattern.key), draw)).data)

    async def find_plates(self, pattern: Pattern) -> Plates | None:
        """Return the pattern's plates if a tier has them: they are not drawn for this."""
        found = await self._cache.get(plates_key(pattern.key))
        return None if found is None else decode_plates(found.data)

    async def _find_known(self, key: str) -> Pattern:
        """Return the pattern of `key`. Raises as `find_picture`."""
        plates, spec = await self._cache.look(plates_key(key)), await self._cache.look(spec_key(key))
        if isinstance(spec, Found):
            known = Pattern(spec=msgspec.json.decode(spec.data, type=PatternSpec), key=key, wording=Wording())
            # Plates that were lost or damaged are drawn again, by the model that drew them.
            if isinstance(plates, Found) or known.spec.model_digest == self._bundle.digest:
                return known
        if Absence.OUTAGE in (plates, spec):
            detail = f"whether a pattern has the key {key} cannot be known now: the object store is away"
            raise Unavailable(detail, retry_after_s=UNKNOWN_RETRY_S)
        raise NotFound(f"no pattern has the key {key}; POST /v1/previews makes one")

    async def _keep(self, pattern: Pattern, plates: bytes) -> None:
        """Write the truth at rest, plates last: where there are plates there is a spec."""
        await self._cache.keep(spec_key(pattern.key), canonical_bytes(pattern.spec))
        if not await self._cache.keep(plates_key(pattern.key), plates):
            log.info("plates_stored_later", pattern_key=pattern.key)


def understand_request(request: PatternRequest, read_words: ReadWords, *, model_digest: str) -> Pattern:
    """Return the pattern that `request` means to the model with these words. Raises InvalidInput as `understand`."""
    read = read_phrases(request.prompt)
    if request.prompt.strip() and not read.prompt:
        raise InvalidInput("prompt", got=request.prompt, allowed="something to draw, beside its layout and scale")
    repeat = request.repeat or read.repeat
    drawn = read_words(spell_hex(read.prompt), may_be_empty=False)
    negative = affirm(normalise_prompt("negative_prompt", request.negative_prompt))
    avoided = read_words(spell_hex(negative), may_be_empty=True)
    understood = msgspec.structs.replace(request, negative_prompt=avoided.prompt)
    # The key is that of the words as read: all who ask for sunflowers share the picture of the daisies.
    spec = resolve_spec(understood, prompt=drawn.prompt, repeat=repeat, model_digest=model_digest)
    return Pattern(spec=spec, key=pattern_key(spec), wording=_wording(drawn, avoided))


def _wording(*readings: Reading) -> Wording:
    """Return what was read otherwise or left out, in the prompt and then in the negative prompt."""
    read_as = dict(pair for reading in readings for pair in reading.read_as)
    unknown = dict.fromkeys(word for reading in readings for word in reading.unknown_words)
    return Wording(read_as=read_as, unknown_words=tuple(unknown))


def _check_key(key: str) -> None:
    if not is_pattern_key(key):
        raise NotFound(f"no pattern has the key {key[:40]!r}: keys are 32 hexadecimal digits")


def _picture(key: str, size_px: int, found: Found) -> Picture:
    return Picture(key=key, size_px=size_px, webp=found.data, source=found.tier_name)
