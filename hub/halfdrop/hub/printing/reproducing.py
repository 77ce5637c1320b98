"""`halfdrop reproduce`: an order's files made again from its manifest alone, and held against their digests.

Nothing is sampled: the plates are in the manifest. Layers are refined again if they were, by the very refiner; files
are made by the same plan as in a worker.
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.plates import Plates
from halfdrop.hub.printing.artwork import Artwork
from halfdrop.hub.printing.manifest import Manifest, describe_device, read_manifest
from halfdrop.hub.printing.plan import plan_files
from halfdrop.models.bundle import open_bundle
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
    data: bytes, *, refiner_dir: Path, into: Path | None = None, device: str = "cpu", profile: bytes = b""
) -> Reproduction:
    """Make the files of the manifest in `data` again, and say which are the same to the bit.

    into: a folder to write them to. profile: the ICC profile that the order named. Raises PermanentError(bad-manifest),
    or (other-refiner) where the refiner at hand is another one.
    """
    manifest, plates = read_manifest(data)
    artwork = Artwork(
        fields=_refine(manifest, plates, refiner_dir, device),
        palette=manifest.palette,
        asked=manifest.spec.palette,
        spec=manifest.spec,
        size_px=manifest.size_px,
        options=manifest.printing,
        refiner_digest=manifest.refiner_digest,
        gates=manifest.gates,
        profile=_check_profile(manifest, profile),
    )
    wanted = {file.name: file.sha256 for file in manifest.files}
    equal: list[str] = []
    different: list[str] = []
    for file in plan_files(artwork, manifest.formats, manifest.colourways):
        made = file.make()
        if into is not None:
            (into / file.name).write_bytes(made)
        is_equal = wanted.pop(file.name, None) == hashlib.sha256(made).hexdigest()
        (equal if is_equal else different).append(file.name)
    return Reproduction(equal, different, sorted(wanted), list(_compare_devices(manifest, device)))


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
    found = hashlib.sha256(profile).hexdigest() if profile else ""
    if found != manifest.profile_sha256:
        got, allowed = found or "none", manifest.profile_sha256 or "none"
        raise PermanentError(f"profile: got one of digest {got}; allowed: {allowed}", code="other-profile")
    return profile


def _compare_devices(manifest: Manifest, device: str) -> list[str]:
    """Return how this device differs from that of the manifest."""
    there, here = (json.loads(msgspec.json.encode(made_on)) for made_on in (manifest.made_on, describe_device(device)))
    then, now = there.pop("tools") | there, here.pop("tools") | here
    return [f"{name}: then {then.get(name)}, now {value}" for name, value in now.items() if then.get(name) != value]
