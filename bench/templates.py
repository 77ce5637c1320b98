"""Orders over all shipped templates, through a real system, and their files read by other programs than ours.

`python bench/templates.py --specs 100` prints one JSON object as its last line. Edge, NATS servers, worker and object
store are real. Each template in turn takes an order for another prompt, seed and repeat, at the smallest size that it
allows (or its own with --full). Every file is then fetched and read: PNG, WebP and TIFF by exiftool and libtiff's
tiffinfo, PDF and .ai by Ghostscript and poppler's pdftoppm, SVG by librsvg's rsvg-convert. `unreadable` counts files
that one of them complains of, `gate_failed` orders that a gate gave up, `other_failed` those that failed otherwise;
goals: 0, told, 0."""

import argparse
import asyncio
import collections
import contextlib
import json
import subprocess
import tempfile
import time
from pathlib import Path

from live import run_system
from measuring import report, summarise

from halfdrop.contracts.gate_reports import decode_report
from halfdrop.contracts.template_check import allowed_sizes_px
from halfdrop.contracts.templates import Template
from halfdrop.edge.client import HalfdropClient
from halfdrop.edge.client_answers import Prediction
from halfdrop.models.template_shelf import open_shelf

PROMPTS = (
    "red polka dots on white",
    "white daisies with yellow centres on green",
    "navy vertical stripes on cream",
    "teal paisley with gold inner shape on cream",
    "blue and white gingham",
    "olive, brown and black camouflage on tan",
    "red hearts outlined in white on pink",
    "mustard chevron on teal",
    "crimson cherries with green stems on ivory",
    "black houndstooth on white",
    "gold ogee on burgundy",
    "green leaves on beige",
    "turquoise scallops nested with navy on white",
)
READ_S = 60.0
WAIT_S = 240.0


async def main(specs: int, *, is_full: bool) -> None:
    """Order, wait, fetch and read `specs` times."""
    templates = open_shelf().newest()
    unreadable: list[str] = []
    verdicts: collections.Counter[str] = collections.Counter()
    caught: collections.Counter[str] = collections.Counter()
    states: dict[str, collections.Counter[str]] = {template.name: collections.Counter() for template in templates}
    kinds: collections.Counter[str] = collections.Counter()
    seconds: list[float] = []
    retried = failed_otherwise = 0
    with tempfile.TemporaryDirectory(prefix="halfdrop-bench-") as folder:
        async with run_system(Path(folder) / "system") as system:
            with HalfdropClient(system.edges[0].url) as client:
                for number in range(specs):
                    template = templates[number % len(templates)]
                    began_s = time.perf_counter()
                    done = await asyncio.to_thread(order, client, template, number, is_full=is_full)
                    seconds.append(time.perf_counter() - began_s)
                    states[template.name][done.status] += 1
                    into = Path(folder) / f"order-{number}"
                    into.mkdir()
                    for name in done.files:
                        path = await asyncio.to_thread(client.download, done, name, into / name)
                        kinds[path.suffix] += 1
                        unreadable += [f"{template.name}: {fault}" for fault in await asyncio.to_thread(read, path)]
                    if done.status != "succeeded" and done.gates is None:
                        failed_otherwise += 1
                        print(f"{template.reference}: {done.error}", flush=True)
                    if done.gates is not None:
                        found = decode_report((into / "gates.json").read_bytes())
                        verdicts[found.verdict] += 1
                        retried += len(found.attempts) > 1
                        bad = {f.gate for one in found.attempts for f in one.findings if f.verdict != "pass"}
                        caught.update(bad)
                        if found.verdict == "fail":
                            print(f"{template.reference}, {PROMPTS[number % len(PROMPTS)]}: {done.error}", flush=True)
    for fault in unreadable[:20]:
        print(fault, flush=True)
    report(
        "templates",
        {
            "specs": specs,
            "templates": len(templates),
            "files": sum(kinds.values()),
            "files_by_kind": dict(kinds),
            "unreadable": len(unreadable),
            "gate_failed": verdicts["fail"],
            "other_failed": failed_otherwise,
            "with_another_seed": retried,
            "verdicts": dict(verdicts),
            "caught_by": dict(caught),
            "ended": {name: dict(counts) for name, counts in states.items()},
            **summarise("order_s", seconds),
        },
    )


def order(client: HalfdropClient, template: Template, number: int, *, is_full: bool) -> Prediction:
    """Order by a template, and return what became of it."""
    sizes = allowed_sizes_px(template) or (max(template.order.size_px.min, 256),)
    layouts = template.order.layouts
    layout = layouts[number // 8 % len(layouts)]
    words = {"drop": ", third drop", "mirror": ", mirrored", "brick": ", brick repeat", "half-drop": ", half-drop"}
    prompt = PROMPTS[number % len(PROMPTS)] + words.get(layout, "")
    ordered = client.order(prompt, template=template.reference, seed=number, size_px=None if is_full else sizes[0])
    return client.wait(ordered.id, timeout_s=WAIT_S)


def read(path: Path) -> list[str]:
    """Return what foreign programs complain of in a file."""
    commands: dict[str, list[list[str]]] = {
        ".png": [["exiftool", "-s3", "-ImageSize", "-XResolution", str(path)]],
        ".webp": [["exiftool", "-s3", "-ImageSize", str(path)]],
        ".tiff": [["exiftool", "-s3", "-ImageSize", "-XResolution", str(path)], ["tiffinfo", "-D", str(path)]],
        ".pdf": [_ghostscript(path), ["pdftoppm", "-r", "20", "-png", str(path), str(path.with_suffix(""))]],
        ".ai": [_ghostscript(path)],
        ".svg": [["rsvg-convert", "-w", "400", "-o", str(path.with_suffix(".svg.png")), str(path)]],
    }
    if path.suffix == ".json":
        with contextlib.suppress(ValueError):
            json.loads(path.read_bytes())
            return []
        return [f"{path.name}: no JSON"]
    faults = []
    for command in commands[path.suffix]:
        run = subprocess.run(command, capture_output=True, text=True, timeout=READ_S, check=False)
        complaint = run.stderr.strip()
        if run.returncode or complaint or (command[0] == "exiftool" and len(run.stdout.split()) < 1):
            faults.append(f"{path.name}: {command[0]} says {complaint[:200] or run.returncode}")
    return faults


def _ghostscript(path: Path) -> list[str]:
    return ["gs", "-q", "-dSAFER", "-dBATCH", "-dNOPAUSE", "-sDEVICE=nullpage", str(path)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--specs", type=int, default=100)
    parser.add_argument("--full", action="store_true", help="at each template's own size")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.specs, is_full=arguments.full))
