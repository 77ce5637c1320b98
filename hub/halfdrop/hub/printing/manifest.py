"""The manifest of an order: digests of all its files, and everything that is needed to make them again.

The plates are in it, 32 KiB, because a picture is made of those and a model's plates differ in the last bit from one
kind of device to another. A painted unit is megabytes: the manifest names its model, and it is painted again. What they
were made on stands there too: the same bytes are promised on the same class of device with the same release, and
`halfdrop reproduce` says what differs otherwise.
"""

import base64
import platform
from collections.abc import Sequence
from importlib.metadata import version

import msgspec
import numpy as np
import pyvips

from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.jobs import Artifact, Job, colourways_of, formats_of, merges_inks, printing_of, usual_of
from halfdrop.contracts.patterns import PatternSpec, pattern_key
from halfdrop.contracts.plates import Plates, decode_plates, encode_plates
from halfdrop.contracts.printing import PrintFormat, PrintOptions
from halfdrop.contracts.templates import USUAL_OUTPUTS, UsualOutput
from halfdrop.hub.printing.artwork import Artwork
from halfdrop.hub.printing.design import Design, Painting
from halfdrop.hub.printing.profiles import profile_digest

MANIFEST_MAX_BYTES = 4 * 2**20
TOOLS = ("halfdrop", "numpy", "pyvips", "pyvips-binary", "pikepdf", "pillow", "contourpy", "scipy", "vtracer")
"""Whose releases decide about bytes."""


class MadeOn(msgspec.Struct, frozen=True, kw_only=True):
    """The class of a device, and the releases of what writes files."""

    device: str
    """What the layers were refined on: "cpu" or "cuda"."""

    machine: str
    """The processor's family: "x86_64"."""

    vectors: str
    """Its widest instructions that NumPy uses: sums come out differently, in the last bit, with others."""

    tools: dict[str, str]


class ManifestFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the order."""

    name: str
    media_type: str
    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, tag="manifest.v1"):
    """Everything about an order's files; nothing of who ordered them, or when."""

    spec: PatternSpec
    pattern_key: str
    size_px: int
    formats: tuple[PrintFormat, ...] = ()
    colourways: tuple[tuple[str, ...], ...] = ()
    usual: tuple[UsualOutput, ...] = USUAL_OUTPUTS
    """Which of master, plates, drawing and proof were made."""

    printing: PrintOptions = PrintOptions()
    palette: tuple[str, ...]
    model_digest: str
    refiner_digest: str = ""
    merges_inks: bool = False
    """Layers of one colour were brought on one plate."""

    profile_sha256: str = ""
    gates: str = ""
    """The gates' report, JSON, as the files carry it."""

    made_on: MadeOn
    files: tuple[ManifestFile, ...]
    plates: str = ""
    """MessagePack of the plates, base64; empty of a painting."""

    painting: Painting | None = None
    """How a user's checkpoint painted it; its unit is painted again to reproduce the order."""


def write_manifest(job: Job, design: Design, artwork: Artwork, files: Sequence[Artifact], *, device: str) -> bytes:
    """Return the manifest of an order whose files are all made."""
    manifest = Manifest(
        spec=job.spec,
        pattern_key=pattern_key(job.spec),
        size_px=job.size_px,
        formats=formats_of(job),
        colourways=colourways_of(job),
        usual=usual_of(job),
        printing=printing_of(job),
        palette=tuple(artwork.palette),
        model_digest=job.spec.model_digest,
        refiner_digest=artwork.refiner_digest,
        merges_inks=merges_inks(job),
        profile_sha256=profile_digest(artwork.profile),
        gates=artwork.gates,
        made_on=describe_device(device),
        files=tuple(
            ManifestFile(name=file.name, media_type=file.media_type, size_bytes=file.size_bytes, sha256=file.sha256)
            for file in files
        ),
        plates="" if design.plates is None else base64.b64encode(encode_plates(design.plates)).decode(),
        painting=design.painting,
    )
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def read_manifest(data: bytes) -> tuple[Manifest, Plates | None]:
    """Return the manifest in `data` and its plates, None of a painting.

    Raises PermanentError(bad-manifest) for anything else.
    """
    try:
        if len(data) > MANIFEST_MAX_BYTES:
            raise ValueError(f"got {len(data)} bytes; allowed: {MANIFEST_MAX_BYTES}")
        manifest = msgspec.json.decode(data, type=Manifest)
        plates = None
        if manifest.painting is None:
            plates = decode_plates(base64.b64decode(manifest.plates, validate=True))
        key = pattern_key(manifest.spec)
        drawn_for = key if plates is None else plates.pattern_key
        if {manifest.pattern_key, drawn_for} != {key}:
            raise ValueError(f"its spec is that of {key}, its plates are those of {drawn_for[:80]}")
    except (msgspec.MsgspecError, ValueError, PermanentError) as error:
        detail = f"not a manifest: {error}. Allowed: the manifest.json of an order, as it was fetched"
        raise PermanentError(detail, code="bad-manifest") from error
    return manifest, plates


def describe_device(device: str) -> MadeOn:
    """Return the class of this machine, as far as bytes depend on it."""
    found = np.show_config(mode="dicts")
    extensions = found.get("SIMD Extensions", {}) if isinstance(found, dict) else {}
    vectors = [*extensions.get("baseline", ()), *extensions.get("found", ())]
    libvips = ".".join(str(pyvips.version(place)) for place in range(3))
    return MadeOn(
        device=device,
        machine=platform.machine(),
        vectors=vectors[-1] if vectors else "",
        tools={name: version(name) for name in TOOLS} | {"libvips": libvips},
    )
