"""ICC profiles: found by name in the hub's folder, doubted before they are used; pixels turned to CMYK through them.

A profile comes from a mill, through mail and zips. One that is torn is refused before anything is made, with what is
wrong with it, and never falls back to another: wrong inks are worse than none.
"""

import hashlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pyvips
from numpy.typing import NDArray
from PIL import Image, ImageCms

from halfdrop.contracts.errors import PermanentError
from halfdrop.hub.files import at_print_resolution
from halfdrop.hub.printing.artwork import Artwork
from halfdrop.hub.printing.spot_inks import delta_e_2000, lab_of
from halfdrop.hub.printing.tiff_files import TIFF_OPTIONS
from halfdrop.models.renderer import lay_cells

Bytes = NDArray[np.uint8]

PROFILE_MAX_BYTES = 16 * 2**20
"""The largest CMYK profiles that printers publish have 3 MB."""

NAMED_MAX = 16
"""So many of the profiles at hand are named in a refusal."""

STRIP_ROWS = 256
_SUFFIXES = (".icc", ".icm")
_SIGNATURE_AT, _CLASS_AT, _SPACE_AT = 36, 12, 16
_HEADER_BYTES = 132
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
"""Cloth's white is the mill's business; black is fitted, so that shadows keep their steps."""


def find_profile(folder: Path | None, name: str) -> bytes:
    """Return the CMYK profile that an order names. Raises PermanentError(unknown-profile) or (bad-profile)."""
    at_hand = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES) if folder else []
    for path in at_hand:
        if path.stem == name:
            if path.stat().st_size > PROFILE_MAX_BYTES:
                got = f"got {path.stat().st_size} bytes"
                raise PermanentError(f"profile {name!r}: {got}; allowed: {PROFILE_MAX_BYTES}", code="bad-profile")
            return check_profile(path.read_bytes(), name)
    named = ", ".join(path.stem for path in at_hand[:NAMED_MAX]) or "none is installed (HALFDROP_HUB_PROFILES_DIR)"
    raise PermanentError(f"printing.profile: got {name!r}; allowed: {named}", code="unknown-profile")


def check_profile(data: bytes, name: str) -> bytes:
    """Return `data` if colours can be printed through it. Raises PermanentError(bad-profile), saying why not."""
    wrong = _find_fault(data)
    if wrong:
        detail = f"profile {name!r}: {wrong}; allowed: a whole ICC profile of a printer, for CMYK"
        raise PermanentError(detail, code="bad-profile")
    return data


def profile_digest(data: bytes) -> str:
    """Return the digest that a manifest holds; "" where there is no profile."""
    return hashlib.sha256(data).hexdigest() if data else ""


def encode_cmyk_tiff(artwork: Artwork) -> bytes:
    """Return the tile in CMYK through the artwork's profile, which the file holds."""
    tile, cell = artwork.tile(), artwork.coverage.get().cell
    transform = _to_cmyk(artwork.profile)
    cmyk = np.empty((*tile.shape[:2], 4), np.uint8)
    for top in range(0, cell.height_px, STRIP_ROWS):  # what the tile repeats need not be turned again
        rows = slice(top, min(top + STRIP_ROWS, cell.height_px))
        strip = Image.fromarray(np.ascontiguousarray(tile[rows, : cell.width_px]))
        cmyk[rows, : cell.width_px] = np.asarray(ImageCms.applyTransform(strip, transform))
    lay_cells(cmyk, cell)
    height, width, bands = cmyk.shape
    image = pyvips.Image.new_from_memory(cmyk, width, height, bands, "uchar")
    image = at_print_resolution(image, "cmyk", dpi=artwork.dpi)
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", artwork.profile)
    image.set_type(pyvips.GValue.blob_type, "xmp-data", artwork.xmp)
    return bytes(image.tiffsave_buffer(**TIFF_OPTIONS))


def print_colour(colour: str, profile: bytes) -> tuple[tuple[float, float, float, float], float]:
    """Return what a press prints for "#rrggbb", per cent of cyan, magenta, yellow and black, and how far from it that
    looks, CIEDE2000: colours outside of what four inks reach move, and a designer should know."""
    pixel = Image.new("RGB", (1, 1), colour)
    inked = np.asarray(ImageCms.applyTransform(pixel, _to_cmyk(profile)))
    back = ImageCms.buildTransform(
        _open(profile), ImageCms.createProfile("sRGB"), "CMYK", "RGB", renderingIntent=_INTENT, flags=_FLAGS
    )
    shown = np.asarray(ImageCms.applyTransform(Image.fromarray(inked, "CMYK"), back))[0, 0].tolist()
    cyan, magenta, yellow, black = (round(level / 2.55, 1) for level in inked[0, 0].tolist())
    apart = delta_e_2000(lab_of(colour), lab_of("#{:02x}{:02x}{:02x}".format(*shown)))
    return (cyan, magenta, yellow, black), round(apart, 2)


def _find_fault(data: bytes) -> str:
    """Return what is wrong with a profile, or ""."""
    if len(data) < _HEADER_BYTES or data[_SIGNATURE_AT : _SIGNATURE_AT + 4] != b"acsp":
        return f"got {len(data)} bytes that are no ICC profile"
    told = int.from_bytes(data[:4], "big")
    if told != len(data):
        return f"got {len(data)} bytes of a profile that says it has {told}"
    if data[_SPACE_AT : _SPACE_AT + 4] != b"CMYK":
        return f"got one for {data[_SPACE_AT : _SPACE_AT + 4].decode('latin-1').strip()!r}"
    if data[_CLASS_AT : _CLASS_AT + 4] != b"prtr":
        return f"got one of class {data[_CLASS_AT : _CLASS_AT + 4].decode('latin-1')!r}"
    try:
        print_colour("#336699", data)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        return f"got one that colours cannot be turned through ({error})"
    return ""


def _to_cmyk(profile: bytes) -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), _open(profile), "RGB", "CMYK", renderingIntent=_INTENT, flags=_FLAGS
    )


def _open(profile: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(BytesIO(profile))
