"""`halfdrop reproduce`: an order's files made again from its manifest alone, and held against their digests.

Plates are in the manifest: nothing is sampled of them. Layers are refined again if they were, by the very refiner. What
a user's checkpoint painted is painted again, by the model and the LoRAs that the manifest names by their digests. Files
are made by the same plan as in a worker.
"""

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.plates import Plates
from halfdrop.hub.printing.design import Design, design_painting, design_plates
from halfdrop.hub.printing.manifest import Manifest, describe_device, read_manifest
from halfdrop.hub.printing.plan import plan_files
from halfdrop.hub.printing.profiles import check_profile, profile_digest
from halfdrop.hub.sampler import Painted, Sampler
from halfdrop.models.bundle import open_bundle, shipped_bundle_dir
from halfdrop.models.fields import Fields, decode_fields


class Reproduction(NamedTuple):
    """What came of it."""

    equal: list[str]
    """Files that came out bit for bit."""

    different: list[str]
    """Files that did not, by name."""

    missing: list[str]
    """Files of the manifest that this release does not make."""

    elsewhere: list[str]
    """How this device and these tools are others than those of the manifest: a line for each."""


def reproduce(
    data: bytes,
    *,
    refiner_dir: Path,
    into: Path | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    profile: bytes = b"",
    models_dir: Path | None = None,
) -> Reproduction:
    """Make the files of the manifest in `data` again, and say which are the same to the bit.

    into: a folder to write them to. profile: the ICC profile that the order named. models_dir: the store with the
    order's model, if a user's checkpoint painted it. Raises PermanentError(bad-manifest), (other-refiner) where the
    refiner at hand is another one, (unknown-model) where the model is not in the store.
    """
    manifest, plates = read_manifest(data)
    design = _redraw(manifest, plates, refiner_dir=refiner_dir, models_dir=models_dir, device=device)
    artwork = design.artwork(
        manifest.spec,
        manifest.size_px,
        manifest.printing,
        refiner_digest=manifest.refiner_digest,
        gates=manifest.gates,
        profile=_check_profile(manifest, profile),
    )
    wanted = {file.name: file.sha256 for file in manifest.files}
    equal: list[str] = []
    different: list[str] = []
    for file in plan_files(artwork, manifest.formats, design.colourways, manifest.usual):
        made = file.make()
        if into is not None:
            (into / file.name).write_bytes(made)
        is_equal = wanted.pop(file.name, None) == hashlib.sha256(made).hexdigest()
        (equal if is_equal else different).append(file.name)
    return Reproduction(equal, different, sorted(wanted), _compare_devices(manifest, design, device))


def _redraw(
    manifest: Manifest,
    plates: Plates | None,
    *,
    refiner_dir: Path,
    models_dir: Path | None,
    device: Literal["cpu", "cuda"],
) -> Design:
    """Return what the order's files were made of."""
    if plates is not None:
        fields = _refine(manifest, plates, refiner_dir, device)
        return design_plates(plates, fields, manifest.spec, colourways=manifest.colourways, merges=manifest.merges_inks)
    painting = manifest.painting
    assert painting is not None, "read_manifest finds one of the two"

    async def paint() -> Painted:
        with Sampler(shipped_bundle_dir(), device=device, threads=1, models_dir=models_dir) as sampler:
            return await sampler.paint(manifest.spec, painting.unit_px)

    painted = asyncio.run(paint())
    sha256 = hashlib.sha256(painted.unit.tobytes()).hexdigest()
    now = msgspec.structs.replace(painting, unit_sha256=sha256, device=painted.device, dtype=painted.dtype)
    return design_painting(painted.unit, now, manifest.spec, colourways=manifest.colourways)


def _refine(manifest: Manifest, plates: Plates, refiner_dir: Path, device: str) -> Fields:
    """Return the fields that the files are made of."""
    if not manifest.refiner_digest:
        return decode_fields(plates)
    found = open_bundle(refiner_dir).digest
    if found != manifest.refiner_digest:
        detail = f"refiner: got {found} in {refiner_dir}; allowed: {manifest.refiner_digest}, which drew this order"
        raise PermanentError(detail, code="other-refiner")
    from halfdrop.models.house.refining import open_refiner  # noqa: PLC0415  torch: seconds

    refiner = open_refiner(refiner_dir).to(device)
    fields: Fields = refiner.refine_layers(decode_fields(plates), manifest.spec.prompt, manifest.spec.repeat).fields
    return np.ascontiguousarray(fields)


def _check_profile(manifest: Manifest, profile: bytes) -> bytes:
    """Return the profile if it is the one that the order's files were made with."""
    found = profile_digest(profile)
    if found != manifest.profile_sha256:
        got, allowed = found or "none", manifest.profile_sha256 or "none"
        raise PermanentError(f"profile: got one of digest {got}; allowed: {allowed}", code="other-profile")
    return check_profile(profile, manifest.printing.profile) if profile else b""


def _compare_devices(manifest: Manifest, design: Design, device: str) -> list[str]:
    """Return how this device differs from that of the manifest, and what was painted here from what was there."""
    there, here = (json.loads(msgspec.json.encode(made_on)) for made_on in (manifest.made_on, describe_device(device)))
    then, now = there.pop("tools") | there, here.pop("tools") | here
    if manifest.painting is not None and design.painting is not None:
        for name in ("device", "dtype", "unit_sha256"):
            then[f"painted {name}"], now[f"painted {name}"] = (
                getattr(painting, name) for painting in (manifest.painting, design.painting)
            )
    return [f"{name}: then {then.get(name)}, now {value}" for name, value in now.items() if then.get(name) != value]
