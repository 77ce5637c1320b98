"""One job at its template's gates: what each seed's pattern and files were found to be, and what follows from it.

A pattern is looked at before any file is made, each raster file again from its own bytes before it is stored. Whatever
does not pass ends the attempt: with `AnotherSeed` where the template says so and seeds are left, else with
`GateFailed`. What was found is kept for the report, which is written whatever the end."""

import re
import threading
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pyvips

from halfdrop.contracts.errors import PermanentError
from halfdrop.contracts.gate_reports import GATE_PREFIX, REPORT_NAME, Attempt, Finding, GateReport, encode_report, worst
from halfdrop.contracts.jobs import Artifact, Job
from halfdrop.contracts.patterns import SEED_MAX, pattern_key
from halfdrop.contracts.templates import Finishing
from halfdrop.hub.files import encode_picture
from halfdrop.hub.gates.checking import (
    Checked,
    check_copies,
    check_file,
    check_pattern,
    check_plate,
    check_raster,
)
from halfdrop.hub.gates.copies import take_print
from halfdrop.hub.gates.copy_index import CopyIndex
from halfdrop.hub.gates.size import read_measure
from halfdrop.hub.gates.specimen import Bytes, Specimen, take_painting, take_specimen
from halfdrop.hub.printing.artwork import Artwork
from halfdrop.hub.printing.plan import PROOF_NAME, plate_name
from halfdrop.models.provenance import describe_provenance
from halfdrop.runtime.objects import ObjectStore

SIZED_FILES = frozenset({"master.png", "master.tiff", "indexed.tiff", "separated.tiff", "trapped.tiff", "cmyk.tiff"})
COLOURED_FILES = frozenset({"master.png", "master.tiff", "master.webp", PROOF_NAME})
"""Files that are one tile and say how large it is in print (plates do, too); files that show it in colour. The indexed
TIFF has no soft edges, and separated ones no colours: they are written from the very planes that the plates' files
are."""

_COLOURWAY = re.compile(r"^colourway-\d+-")

PICTURES_MAX = 16
"""Pictures of an order: of more files than these the numbers say enough."""

PICTURE_DPI = 96.0


class AnotherSeed(Exception):
    """The pattern did not pass, and its template has another seed tried."""


class GateFailed(PermanentError):
    """The pattern did not pass, and no seed is left to try."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, code="gate-failed")
        self.artifacts: tuple[Artifact, ...] = ()
        """The report, once it is stored."""


class Gatekeeper:
    """What one delivery of a job found at the gates. Files may be checked from many threads."""

    def __init__(self, finishing: Finishing, objects: ObjectStore) -> None:
        self._finishing = finishing
        self._index = CopyIndex(objects)
        self._attempts: list[Attempt] = []
        self._findings: list[Finding] = []
        self._pictures: dict[str, Bytes] = {}
        self._lock = threading.Lock()
        self._specimen: Specimen | None = None
        self._print: np.ndarray | None = None

    @property
    def retried(self) -> int:
        """Other seeds that were tried already."""
        return len(self._attempts)

    @property
    def needs_refining(self) -> bool:
        return "refine" in self._finishing.steps

    def look(self, artwork: Artwork) -> None:
        """Look at the pattern, before files are made of it. Raises AnotherSeed or GateFailed; in a thread."""
        spec, size_px = artwork.spec, artwork.size_px
        if artwork.shows_painting:
            self._specimen = take_painting(artwork.tile(), spec.repeat, dpi=artwork.dpi)
        else:
            fields, palette = artwork.fields, artwork.palette
            self._specimen = take_specimen(fields, palette, spec.repeat, size_px=size_px, dpi=artwork.dpi)
        self._print = take_print(self._specimen.cell)
        self._note(check_pattern(self._specimen, self._finishing.gates, retried=self.retried))

    async def compare(self, tenant: str) -> None:
        """Hold the pattern against those of other tenants. Raises AnotherSeed, GateFailed, or Unavailable."""
        if self._finishing.gates.copies is None:
            return
        assert self._print is not None
        assert self._specimen is not None
        distance = await self._index.distance(self._print, tenant=tenant)
        self._note(check_copies(distance, self._specimen, self._finishing.gates, retried=self.retried))

    async def remember(self, tenant: str, key: str) -> None:
        """Keep the print of a pattern that was made, for those who come after. Raises Unavailable."""
        if self._finishing.gates.copies is not None and self._print is not None:
            await self._index.remember(self._print, tenant=tenant, pattern_key=key)

    def check(self, name: str, data: bytes, artwork: Artwork) -> None:
        """Look at a file as it will be stored. Raises AnotherSeed or GateFailed; in any thread."""
        gates = self._finishing.gates
        plain = _COLOURWAY.sub("", name)
        plates = {plate_name(artwork, place): place for place in range(len(artwork.layers))}
        checked = []
        if plain in SIZED_FILES or name in plates:
            checked += check_file(name, read_measure(data), gates, size_px=artwork.size_px, dpi=artwork.dpi)
        if gates.seams is not None and name in plates:
            checked += self._check_plate(name, data, artwork, plates[name])
        if gates.seams is not None and plain in COLOURED_FILES:
            checked += self._check_tile(name, data, artwork)
        self._note(checked)

    def _check_plate(self, name: str, data: bytes, artwork: Artwork, place: int) -> list[Checked]:
        assert self._specimen is not None
        plane: Bytes = pyvips.Image.new_from_buffer(data, "").numpy()
        field = artwork.fields[artwork.layers[place]]
        return check_plate(name, plane, field, self._specimen, self._finishing.gates, retried=self.retried)

    def _check_tile(self, name: str, data: bytes, artwork: Artwork) -> list[Checked]:
        specimen, gates = self._specimen, self._finishing.gates
        assert specimen is not None
        pixels: Bytes = pyvips.Image.new_from_buffer(data, "").numpy()[..., :3]
        side = len(pixels) // 3 if name == PROOF_NAME else len(pixels)
        coloured = replace(specimen, palette=tuple(artwork.palette))
        return check_raster(name, np.ascontiguousarray(pixels[:side, :side]), coloured, gates, retried=self.retried)

    def summary(self) -> str:
        """Return what the pattern was found to be, as its files carry it: JSON."""
        numbers = {finding.gate: finding.number for finding in self._findings}
        return msgspec.json.encode({"template": self._finishing.template, **numbers}).decode()

    def close_attempt(self, job: Job) -> None:
        """End an attempt that did not pass; the next seed's findings are kept beside it."""
        with self._lock:
            self._attempts.append(self._attempt(job))
            self._findings, self._pictures = [], {}

    def _attempt(self, job: Job) -> Attempt:
        ordered = sorted(self._findings, key=lambda finding: (finding.stage != "pattern", finding.stage, finding.gate))
        return Attempt(seed=job.spec.seed, pattern_key=pattern_key(job.spec), findings=tuple(ordered))

    def report(self, job: Job) -> list[tuple[str, str, bytes]]:
        """Return the report's files: name, media type, bytes."""
        attempts = (*self._attempts, self._attempt(job))
        report = GateReport(
            template=self._finishing.template,
            template_digest=self._finishing.digest,
            verdict=worst(attempts[-1].findings),
            attempts=attempts,
        )
        xmp = describe_provenance(job.spec)
        pictures = [
            (name, "image/png", encode_picture(pixels, xmp, dpi=PICTURE_DPI)) for name, pixels in self._pictures.items()
        ]
        return [(REPORT_NAME, "application/json", encode_report(report)), *pictures]

    def _note(self, checked: Sequence[Checked]) -> None:
        """Keep what was found. Raises AnotherSeed or GateFailed for what ends the attempt."""
        findings = []
        with self._lock:
            for each in checked:
                finding = each.finding
                if each.picture is not None and len(self._pictures) < PICTURES_MAX:
                    stage = "" if finding.stage == "pattern" else f"-{finding.stage.rpartition('.')[0]}"
                    name = f"{GATE_PREFIX}{finding.gate}{stage}.png"
                    self._pictures[name] = each.picture
                    finding = msgspec.structs.replace(finding, picture=name)
                findings.append(finding)
            self._findings += findings
        verdict = worst(tuple(findings))
        if verdict == "fail":
            raise GateFailed(_say_failure(self._finishing.template, findings, self.retried))
        if verdict == "retry":
            raise AnotherSeed


def next_seed(job: Job) -> Job:
    """Return the job under the next seed: its plates are no longer those that were previewed."""
    spec = msgspec.structs.replace(job.spec, seed=(job.spec.seed + 1) % (SEED_MAX + 1))
    return msgspec.structs.replace(job, spec=spec, plates=None)


def _say_failure(template: str, findings: Sequence[Finding], retried: int) -> str:
    finding = next(finding for finding in findings if finding.verdict == "fail")
    side = "at least" if finding.is_least else "at most"
    tried = (
        f"; {retried} other seeds were no better" if retried > 1 else "; another seed was no better" if retried else ""
    )
    return (
        f"gate {finding.gate} of template {template}: {finding.says}; got {finding.number:g}, allowed: {side} "
        f"{finding.limit:g}{tried}. {REPORT_NAME} and its pictures show it"
    )
