"""Every file of an order, planned, made, told in the manifest, and made again from that alone."""

import base64
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.jobs import Artifact, Job
from halfdrop.contracts.patterns import PatternSpec, pattern_key
from halfdrop.contracts.printing import PrintFormat, PrintOptions
from halfdrop.contracts.repeats import Repeat
from halfdrop.hub.printing.artwork import Artwork
from halfdrop.hub.printing.design import design_job
from halfdrop.hub.printing.formats import FORMATS
from halfdrop.hub.printing.manifest import read_manifest, write_manifest
from halfdrop.hub.printing.plan import plan_files
from halfdrop.hub.printing.reproducing import reproduce
from halfdrop.models.bundle import shipped_refiner_dir
from halfdrop.models.fields import Fields, decode_fields, fields_to_plates

SPEC = PatternSpec(
    prompt="“rosés” & <thorns>", repeat=Repeat(layout="half-drop").normalise(), model_digest="sha256:0f", seed=7
)
KEY = pattern_key(SPEC)
ASKED: tuple[PrintFormat, ...] = tuple(FORMATS)
COLOURWAYS = (("#ffffff", "#004488"),)
JOB = Job(
    id="a1",
    origin="local",
    spec=SPEC,
    size_px=256,
    created_at=1.0,
    formats=ASKED,
    colourways=COLOURWAYS,
    printing=PrintOptions(repeat_mm=64, profile="mill"),
)
PROFILE = Path("/usr/share/color/icc/ghostscript/default_cmyk.icc").read_bytes()


@pytest.fixture(scope="module")
def folder(units: dict[str, Fields], palette: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An order's files in a folder, with their manifest."""
    folder = tmp_path_factory.mktemp("order")
    plates = fields_to_plates(units["heart"], palette, pattern_key=KEY, model_digest="sha256:0f")
    artwork = Artwork(
        fields=decode_fields(plates),
        palette=palette,
        spec=SPEC,
        size_px=JOB.size_px,
        options=PrintOptions(repeat_mm=64, profile="mill"),
        profile=PROFILE,
        gates='{"seams":0.99}',
    )
    artifacts = []
    for file in plan_files(artwork, ASKED, COLOURWAYS):
        data = file.make()
        (folder / file.name).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        path = f"jobs/{file.name}"
        artifacts.append(
            Artifact(name=file.name, path=path, media_type=file.media_type, size_bytes=len(data), sha256=digest)
        )
    design = design_job(JOB, plates, decode_fields(plates))
    manifest = write_manifest(JOB, design, artwork, artifacts, device="cpu")
    (folder / "manifest.json").write_bytes(manifest)
    return folder


@pytest.fixture(scope="module")
def order(folder: Path) -> bytes:
    return (folder / "manifest.json").read_bytes()


def test_every_format_that_can_be_asked_for_is_made() -> None:
    assert set(FORMATS) == set(get_args(PrintFormat))
    assert len({kind.file_name for kind in FORMATS.values()}) == len(FORMATS)


def test_every_file_says_where_it_comes_from(order: bytes, folder: Path) -> None:
    """exiftool finds the source, the spec and the gates' report in every picture and page; nothing is told twice."""
    manifest, _ = read_manifest(order)
    names = [file.name for file in manifest.files if not file.name.endswith(".json")]
    assert len(names) == len(set(names)) >= 10
    command = ["exiftool", "-j", "-G1", "-XMP:all", *names]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    told: list[dict[str, Any]] = json.loads(run.stdout)
    for name, tags in zip(names, told, strict=True):
        found = {tag.partition(":")[2]: value for tag, value in tags.items()}
        assert found.get("DigitalSourceType", "").endswith("trainedAlgorithmicMedia"), name
        assert msgspec.json.decode(found["PatternSpec"], type=PatternSpec) == SPEC, name
        assert "0.99" in str(found["GateReport"]), name


def test_the_manifest_alone_makes_the_files_again(order: bytes, folder: Path, tmp_path: Path) -> None:
    made = reproduce(order, refiner_dir=shipped_refiner_dir(), into=tmp_path, profile=PROFILE)
    assert made.different == []
    assert made.missing == []
    assert made.elsewhere == []
    assert len(made.equal) == len(read_manifest(order)[0].files)
    assert all((tmp_path / name).read_bytes() == (folder / name).read_bytes() for name in made.equal)


def test_what_differs_is_named(order: bytes) -> None:
    changed = json.loads(order) | {"formats": [], "colourways": []}
    changed["files"] = [file for file in changed["files"] if file["name"].endswith(("r.png", "n.svg", "f.png"))][:3]
    changed["files"][1]["sha256"] = "0" * 64
    changed["files"].append(changed["files"][0] | {"name": "hologram.bin"})
    changed["made_on"]["vectors"] = "abacus"
    made = reproduce(json.dumps(changed).encode(), refiner_dir=shipped_refiner_dir(), profile=PROFILE)
    assert changed["files"][1]["name"] in made.different
    assert changed["files"][0]["name"] in made.equal
    assert made.missing == ["hologram.bin"]
    assert [line for line in made.elsewhere if line.startswith("vectors: then abacus")]


def test_a_manifest_of_another_pattern_or_none_is_refused(order: bytes) -> None:
    changed = json.loads(order)
    changed["spec"]["seed"] = 8
    torn = json.loads(order)
    torn["plates"] = base64.b64encode(b"plates").decode()
    for data in (b"", b"{}", order[:-30], json.dumps(changed).encode(), json.dumps(torn).encode()):
        with pytest.raises(PermanentError, match="not a manifest"):
            reproduce(data, refiner_dir=shipped_refiner_dir())


def test_another_profile_is_refused_by_its_digest(order: bytes) -> None:
    with pytest.raises(PermanentError, match=r"profile: got one of digest none; allowed: [0-9a-f]{64}"):
        reproduce(order, refiner_dir=shipped_refiner_dir())


def test_another_refiner_is_refused_by_its_digest(order: bytes) -> None:
    changed = json.loads(order)
    changed["refiner_digest"] = "sha256:ff"
    with pytest.raises(PermanentError, match="allowed: sha256:ff, which drew this order"):
        reproduce(json.dumps(changed).encode(), refiner_dir=shipped_refiner_dir())
