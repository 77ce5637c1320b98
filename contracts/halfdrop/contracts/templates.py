"""Templates: how an order becomes a product, as a small file that a designer can write.

A template says which model draws, how the prompt is framed, what an order may ask for, which steps finish it, which
files come out, and what they must pass. `template_check` reads and checks the file; what a hub needs of it travels with
the job as `Finishing`, so that a hub knows no templates and never another version of one than the edge that took the
order.
"""

import hashlib
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from halfdrop.contracts.patterns import PALETTE_MAX
from halfdrop.contracts.printing import FEATURE_MAX_MM, MM_PER_INCH, TRAP_MAX_MM, PrintFormat
from halfdrop.contracts.repeats import Layout

RETRIES_MAX = 8
"""Other seeds that a gate may ask for: each costs a drawing and a look, and who fails nine times fails for a reason."""

FRAME_SLOT = "{prompt}"

Step = Literal["refine", "separate", "trap", "trace"]
"""What is done before files are written, in this order: draw the layers exactly on a finer grid; one plate for each
ink; let lighter inks run on under darker neighbours; outlines of the layers."""

UsualOutput = Literal["png", "plates", "svg", "proof"]
"""The master; a greyscale PNG for each ink; stacked outlines; 3 × 3 tiles."""

USUAL_OUTPUTS: tuple[UsualOutput, ...] = get_args(UsualOutput)
"""What is made of an order without a template."""

Output = UsualOutput | PrintFormat

NEEDS: dict[Output, Step | None] = {
    "png": None,
    "plates": "separate",
    "svg": "trace",
    "proof": None,
    "pdf": "trace",
    "tiff": None,
    "tiff-indexed": "separate",
    "tiff-separated": "separate",
    "ai": "trace",
    "tiff-trapped": "trap",
    "webp": None,
    "inks": "separate",
    "svg-knockout": "trace",
    "sheet": "separate",
    "drawing": None,
    "proof-pdf": None,
    "tiff-cmyk": None,
}
"""The step without which a file cannot be made."""

SPOT_OUTPUTS: tuple[Output, ...] = (
    "plates",
    "pdf",
    "ai",
    "svg-knockout",
    "tiff-indexed",
    "tiff-separated",
    "tiff-trapped",
)
"""Files that tell the inks apart, as a press with screens needs them."""

PressKind = Literal["digital", "screen", "weave", "display"]
"""What prints: any colour at once; a screen or roller for each ink; a yarn for each colour; a monitor."""

GateName = Literal["seams", "repeats", "blank", "noise", "colours", "stroke", "size", "copies"]
"""What is looked at; docs/templates.md says how each is measured."""

GATES: tuple[GateName, ...] = get_args(GateName)

Name = Annotated[str, Meta(pattern="^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=40)]
Text = Annotated[str, Meta(min_length=1, max_length=400)]
Millimetres = Annotated[float, Meta(gt=0, le=10_000)]


class Span(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whole numbers that an order may ask for, and the one it gets if it asks for none."""

    min: int
    max: int
    default: int


class Framing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said to the model round the words of the order."""

    frame: Annotated[str, Meta(max_length=300)] = FRAME_SLOT
    """The prompt, with {prompt} where the words of the order go."""

    avoid: Annotated[str, Meta(max_length=300)] = ""
    """Kept out of the picture, as well as what the order keeps out."""


class Allowed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an order may ask for."""

    size_px: Span
    """Width and height of the tile in pixels."""

    layouts: Annotated[tuple[Layout, ...], Meta(min_length=1)]
    """Repeats; the first is taken where an order names none."""

    units: Span
    """Units across the tile: how large the motif is."""

    colours: Span | None = None
    """Colours of a palette that an order brings, the ground included; no more are printed then: roles beyond them take
    its colours again. `default` is what the Studio begins with. Absent: any number, and the model's own for other
    roles."""

    palette: Annotated[tuple[str, ...], Meta(max_length=5)] = ()
    """ "#rrggbb" in order of role, taken where an order brings no palette; empty: the model's own colours."""


class Press(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the files are made for."""

    kind: PressKind
    dpi: Annotated[int, Meta(ge=30, le=1200)]
    """Dots, stitches, picks or pixels to the inch."""

    colours_max: Annotated[int, Meta(ge=1, le=64)] = 64
    """Inks, screens or yarns that it takes, the ground included."""

    repeat_lengths_mm: Annotated[tuple[Millimetres, ...], Meta(max_length=64)] = ()
    """Lengths of a tile that it can print; empty: any."""

    tolerance_mm: Annotated[float, Meta(ge=0, le=10)] = 0.2
    """By how much a tile may miss one of these at `dpi`: the resolution is then bent to the very length."""

    trap_mm: Annotated[float, Meta(ge=0, le=TRAP_MAX_MM)] = 0.2
    """How far a lighter ink runs on under a darker neighbour, by the step `trap`."""

    profile: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{0,64}$")] = ""
    """Name of an ICC profile that the hub has, for `tiff-cmyk`."""

    min_feature_mm: Annotated[float, Meta(ge=0, le=FEATURE_MAX_MM)] = 0.3
    """Spots smaller than this in every direction are left out by the step `trap`."""


class Work(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is made."""

    steps: tuple[Step, ...] = ()
    outputs: Annotated[tuple[Output, ...], Meta(min_length=1)]


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to do about a pattern that does not pass."""

    retry_with_new_seed: Annotated[int, Meta(ge=0, le=RETRIES_MAX)] = 0
    """Other seeds to try first."""

    on_failure: Literal["fail", "warn"] = "fail"
    """Then: give the order up, or make the files all the same and say so."""


class AtMost(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number that must not be exceeded."""

    max: float


class AtLeast(Rule, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number that must be reached."""

    min: float


class Gates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the pattern and its files must pass; what is absent is not looked at."""

    seams: AtMost | None = None
    """Steps across the borders of units, over the worst line inside: 1 shows nothing."""

    repeats: AtMost | None = None
    """How much the pattern is like itself where its lattice does not repeat it, -1 to 1."""

    blank: AtLeast | None = None
    """Share of the tile that is not its commonest colour."""

    noise: AtMost | None = None
    """Steps from pixel to pixel, over those of a picture of pure noise: 0 to 1."""

    colours: AtMost | None = None
    """Colours that are seen, the ground included."""

    stroke: AtLeast | None = None
    """Width of the thinnest line or gap of a plate, in mm."""

    size: AtMost | None = None
    """By how many mm a file, as it says itself, misses what was ordered."""

    copies: AtLeast | None = None
    """Distance to the nearest pattern of another tenant: 0 is the same, 1 nothing alike."""

    def rules(self) -> "dict[GateName, AtMost | AtLeast]":
        """Return the rules that there are, by gate."""
        return {name: rule for name in GATES if (rule := getattr(self, name)) is not None}


class Template(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One template, as its file says it."""

    name: Name
    version: Annotated[int, Meta(ge=1, le=1_000_000)]
    title: Annotated[str, Meta(min_length=1, max_length=60)]
    description: Text
    model: Annotated[str, Meta(min_length=1, max_length=80)] = "house"
    """Name or digest of the bundle that draws."""

    prompt: Framing = Framing()
    order: Allowed
    press: Press
    finishing: Work
    gates: Gates = Gates()

    @property
    def reference(self) -> str:
        """Name and version: "rotary-screen@1"."""
        return f"{self.name}@{self.version}"


class Finishing(msgspec.Struct, frozen=True, kw_only=True):
    """What a hub needs of a template; it travels with the job."""

    template: str
    """Name and version."""

    digest: str
    steps: tuple[Step, ...]
    outputs: tuple[Output, ...]
    gates: Gates = Gates()


def finishing_of(template: Template) -> Finishing:
    """Return what a hub needs of `template`."""
    return Finishing(
        template=template.reference,
        digest=template_digest(template),
        steps=template.finishing.steps,
        outputs=template.finishing.outputs,
        gates=_with_press_limit(template),
    )


def _with_press_limit(template: Template) -> Gates:
    """Return the gates; where none counts colours and the press takes few, the press's limit is one."""
    most = template.press.colours_max
    if template.gates.colours is not None or most > PALETTE_MAX:
        return template.gates
    return msgspec.structs.replace(template.gates, colours=AtMost(max=most))


def template_digest(template: Template) -> str:
    """Return SHA-256 of what the template says: comments and the order of its members do not change it."""
    return hashlib.sha256(msgspec.json.encode(template, order="sorted")).hexdigest()


def print_formats(outputs: tuple[Output, ...]) -> tuple[PrintFormat, ...]:
    """Return those of the outputs that are formats beyond the usual files, in the order in which they are made."""
    formats: tuple[PrintFormat, ...] = get_args(PrintFormat)
    return tuple(name for name in formats if name in outputs)


def usual_outputs(outputs: tuple[Output, ...]) -> tuple[UsualOutput, ...]:
    """Return those of the outputs that are made of an order without a template as well."""
    return tuple(name for name in USUAL_OUTPUTS if name in outputs)


def side_mm(size_px: int, dpi: float) -> float:
    """Return how long `size_px` are in print."""
    return size_px * MM_PER_INCH / dpi


def size_px_of(length_mm: float, dpi: float) -> int:
    """Return the number of pixels that comes nearest to `length_mm`."""
    return round(length_mm * dpi / MM_PER_INCH)


def miss_mm(size_px: int, press: Press) -> float:
    """Return by how much a tile misses the nearest length that the press can print; 0 where it prints any."""
    side = side_mm(size_px, press.dpi)
    return min((abs(side - length) for length in press.repeat_lengths_mm), default=0.0)
