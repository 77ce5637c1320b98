"""What a job becomes: files that repeat, agree with each other, are made once, and can be made again."""

import asyncio
import hashlib
import io
import signal
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hub_bench import SPEC, Bench, bench, make_job
from PIL import Image

from halfdrop.contracts import subjects
from halfdrop.contracts.jobs import Job, JobState, decode_status
from halfdrop.contracts.patterns import PatternSpec, pattern_key
from halfdrop.contracts.plates import decode_plates
from halfdrop.contracts.printing import PrintFormat, PrintOptions
from halfdrop.hub.printing.manifest import read_manifest
from halfdrop.hub.printing.reproducing import reproduce
from halfdrop.models.bundle import open_bundle, shipped_bundle_dir, shipped_refiner_dir

__all__ = ["bench"]

WaitUntil = Callable[..., Awaitable[None]]

KILLED_WORKER = Path(__file__).with_name("killed_worker.py")


async def test_a_job_becomes_files_that_wrap_on_its_lattice_and_agree_with_each_other(
    bench: Bench, wait_until: WaitUntil
) -> None:
    job = make_job(size_px=256)
    async with bench.worker():
        await bench.order(job)
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED))

    status = await bench.last(job.id)
    assert status is not None
    assert [a.name for a in status.artifacts] == [
        "master.png",
        "plate-1-c0392b.png",
        "plate-2-1d3557.png",
        "pattern.svg",
        "proof.png",
        "manifest.json",
    ]
    for artifact in status.artifacts:
        data = await bench.objects.get(artifact.path)
        assert data is not None
        assert (len(data), hashlib.sha256(data).hexdigest()) == (artifact.size_bytes, artifact.sha256)

    png = Image.open(io.BytesIO(await bench.read(job, "master.png")))
    master = np.asarray(png)
    assert master.shape == (256, 256, 3)
    assert png.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    assert "icc_profile" in png.info
    assert "trainedAlgorithmicMedia" in png.info["XML:com.adobe.xmp"]
    assert '"prompt":"red dots"' in png.info["XML:com.adobe.xmp"]
    # a half-drop: one unit across and half a unit down is the same place
    np.testing.assert_array_equal(master, np.roll(master, (64, 128), axis=(0, 1)))
    colours = {tuple(c) for c in master.reshape(-1, 3).tolist()}
    assert {(0xF4, 0xEF, 0xE6), (0xC0, 0x39, 0x2B), (0x1D, 0x35, 0x57)} <= colours

    outer, inner = [
        np.asarray(Image.open(io.BytesIO(await bench.read(job, name)))) for name in
        ("plate-1-c0392b.png", "plate-2-1d3557.png")
    ]  # fmt: skip
    assert outer.dtype == np.uint8
    assert outer.shape == (256, 256)
    assert (master[(outer == 255) & (inner == 0)] == (0xC0, 0x39, 0x2B)).all()
    assert (master[inner == 255] == (0x1D, 0x35, 0x57)).all()
    assert (master[outer == 0] == (0xF4, 0xEF, 0xE6)).all()
    assert outer.mean() / 255 == pytest.approx(np.pi * 24**2 / 64**2, rel=0.01)

    proof = np.asarray(Image.open(io.BytesIO(await bench.read(job, "proof.png"))))
    np.testing.assert_array_equal(proof, np.tile(master, (3, 3, 1)))
    drawing = ET.fromstring(await bench.read(job, "pattern.svg"))
    assert drawing.tag.endswith("svg")
    assert await bench.waiting() == 0


def export_small_refiner(tmp_path: Path) -> Path:
    """Export a refiner that has learnt nothing, and moves every edge outwards by a third of a grid pixel."""
    import torch

    from halfdrop.models.house.refiner.export import export_refiner
    from halfdrop.models.house.refiner.settings import RefinerSettings
    from halfdrop.models.house.refiner.train import CHECKPOINT_FILE, SETTINGS_FILE, VOCABULARY_FILE, begin_run
    from halfdrop.models.house.tokenizer import Tokenizer

    folder = tmp_path / "run"
    folder.mkdir()
    tokenizer = Tokenizer.build(["red dots"])
    tokenizer.save(folder / VOCABULARY_FILE)
    (folder / SETTINGS_FILE).write_text("{}")
    run = begin_run(RefinerSettings(), tokenizer, "cpu")
    assert run.average.head.bias is not None
    torch.nn.init.constant_(run.average.head.bias, 1 / 18)
    run.save(folder / CHECKPOINT_FILE)
    export_refiner(folder, tmp_path / "refiner")
    return tmp_path / "refiner"


async def test_plates_of_the_hubs_own_model_are_refined_and_others_are_not(
    bench: Bench, wait_until: WaitUntil, tmp_path: Path
) -> None:
    bench.refiner_dir, bench.bundle_dir = export_small_refiner(tmp_path), shipped_bundle_dir()
    own = msgspec.structs.replace(SPEC, model_digest=open_bundle(bench.bundle_dir).digest)
    ours, theirs = make_job("ours", spec=own), make_job("theirs")
    async with bench.worker():
        await bench.order(ours)
        await bench.order(theirs)
        await wait_until(lambda: bench.has_state("theirs", JobState.COMPLETED))
    refined, plain = await bench.last("ours"), await bench.last("theirs")
    assert refined is not None
    assert plain is not None
    assert refined.refiner_digest == open_bundle(bench.refiner_dir).digest
    assert "layers refined: 1, 2; kept as previewed: none" in refined.log
    assert plain.refiner_digest is msgspec.UNSET
    assert "layers: as previewed" in plain.log
    for name, radius_px in (("plate-1-c0392b.png", 24), ("plate-2-1d3557.png", 9)):
        before, after = [
            np.asarray(Image.open(io.BytesIO(await bench.read(job, name)))).mean() / 255 for job in (theirs, ours)
        ]
        assert before == pytest.approx(np.pi * radius_px**2 / 64**2, rel=0.01)
        assert after == pytest.approx(np.pi * (radius_px + 1 / 3) ** 2 / 64**2, rel=0.01)
    assert [a.name for a in refined.artifacts] == [a.name for a in plain.artifacts]


async def test_a_damaged_refiner_is_not_used_and_stops_no_job(
    bench: Bench, wait_until: WaitUntil, tmp_path: Path
) -> None:
    bench.refiner_dir, bench.bundle_dir = export_small_refiner(tmp_path), shipped_bundle_dir()
    (bench.refiner_dir / "refiner" / "config.json").write_text("{}")
    job = make_job(spec=msgspec.structs.replace(SPEC, model_digest=open_bundle(bench.bundle_dir).digest))
    async with bench.worker():
        await bench.order(job)
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED))
    status = await bench.last(job.id)
    assert status is not None
    assert status.refiner_digest is msgspec.UNSET
    assert "layers: as previewed" in status.log


async def test_the_result_lies_beside_the_files_and_is_what_was_announced(bench: Bench, wait_until: WaitUntil) -> None:
    job = make_job()
    async with bench.worker():
        await bench.order(job)
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED))
    status = await bench.last(job.id)
    assert status is not None
    assert decode_status(await bench.read(job, "result.json")) == status
    assert status.worker == "hub-1"
    assert status.step == status.steps > 0
    assert status.queued_at is not None
    assert status.started_at is not None
    assert status.completed_at is not None
    assert status.created_at <= status.queued_at <= status.started_at <= status.completed_at
    assert any(line.startswith("seams: ") for line in status.log)


async def test_formats_that_are_asked_for_are_made_beside_the_usual_files(bench: Bench, wait_until: WaitUntil) -> None:
    asked: tuple[PrintFormat, ...] = ("pdf", "tiff", "tiff-indexed", "tiff-separated")
    job = msgspec.structs.replace(make_job(), formats=asked)
    async with bench.worker():
        await bench.order(job)
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED))
    done = await bench.last(job.id)
    assert done is not None
    assert (done.step, done.steps) == (16, 16)
    names = ("pattern.pdf", "master.tiff", "indexed.tiff", "separated.tiff")
    assert [artifact.name for artifact in done.artifacts][-5:] == [*names, "manifest.json"]
    starts = [(await bench.read(job, name))[:4] for name in names]
    assert starts == [b"%PDF", b"II*\0", b"II*\0", b"II*\0"]


async def test_colourways_are_the_same_plates_in_other_colours_and_the_manifest_makes_all_again(
    bench: Bench, wait_until: WaitUntil
) -> None:
    job = msgspec.structs.replace(
        make_job(size_px=256),
        formats=("inks",),
        colourways=(("#102030", "#f0e0d0"),),
        printing=PrintOptions(inks_max=3),
    )
    async with bench.worker():
        await bench.order(job)
        await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED))
    done = await bench.last(job.id)
    assert done is not None
    names = [artifact.name for artifact in done.artifacts]
    assert names[-5:] == [
        "inks.json",
        "colourway-1-master.png",
        "colourway-1-pattern.svg",
        "colourway-1-inks.json",
        "manifest.json",
    ]
    master, other = [
        np.asarray(Image.open(io.BytesIO(await bench.read(job, name)))) for name in
        ("master.png", "colourway-1-master.png")
    ]  # fmt: skip
    assert ((master == (0xF4, 0xEF, 0xE6)).all(-1) == (other == (0x10, 0x20, 0x30)).all(-1)).all()
    assert ((master == (0xC0, 0x39, 0x2B)).all(-1) == (other == (0xF0, 0xE0, 0xD0)).all(-1)).all()
    manifest = await bench.read(job, "manifest.json")
    told = {file.name: file.sha256 for file in read_manifest(manifest)[0].files}
    assert told == {artifact.name: artifact.sha256 for artifact in done.artifacts if artifact.name != "manifest.json"}
    made = await asyncio.to_thread(reproduce, manifest, refiner_dir=shipped_refiner_dir())
    assert (made.different, made.missing, made.elsewhere) == ([], [], [])


async def test_more_inks_than_the_press_takes_end_the_job_with_what_is_allowed(
    bench: Bench, wait_until: WaitUntil
) -> None:
    refused = {
        "too-many-inks": (PrintOptions(inks_max=2), "got 3, the ground included; allowed: 2"),
        "unknown-profile": (PrintOptions(profile="mill"), "got 'mill'; allowed: none is installed"),
    }
    async with bench.worker():
        for code, (options, said) in refused.items():
            await bench.order(msgspec.structs.replace(make_job(code), printing=options))
            await wait_until(lambda code=code: bench.has_state(code, JobState.FAILED))
            done = await bench.last(code)
            assert done is not None
            assert done.error is not None
            assert done.error.code == code
            assert said in done.error.detail


async def test_workers_killed_in_one_finishing_step_after_another_lose_nothing_and_make_no_file_twice(
    bench: Bench, wait_until: WaitUntil, tmp_path: Path
) -> None:
    job = msgspec.structs.replace(make_job(), formats=("pdf", "inks"), colourways=(("#102030",),))
    await bench.order(job)
    written: list[list[str]] = []
    for number, deadly in enumerate(("plate-2-1d3557.png", "manifest.json", "")):
        told = tmp_path / f"written-{number}"
        told.touch()
        command = [KILLED_WORKER, bench.settings.nats_url, bench.objects.url, deadly, told]
        process = await asyncio.create_subprocess_exec(sys.executable, *command)
        if deadly:
            assert await process.wait() == -signal.SIGKILL
        else:
            await wait_until(lambda: bench.has_state(job.id, JobState.COMPLETED), timeout_s=30)
            process.terminate()
            await process.wait()
        written.append(told.read_text().split())
    # each begins where the one before it died; the last has only the manifest left to write
    assert written[-1] == ["manifest.json"]
    made = [name for names in written for name in names]
    assert sorted(made) == sorted(set(made))
    done = await bench.last(job.id)
    assert done is not None
    assert {artifact.name for artifact in done.artifacts} == set(made)
    whole = msgspec.structs.replace(job, id="undisturbed")
    async with bench.worker():
        await bench.order(whole)
        await wait_until(lambda: bench.has_state(whole.id, JobState.COMPLETED))
    undisturbed = await bench.last(whole.id)
    assert undisturbed is not None
    assert [a.sha256 for a in done.artifacts] == [a.sha256 for a in undisturbed.artifacts]


async def test_two_orders_of_one_pattern_give_the_same_bytes(bench: Bench, wait_until: WaitUntil) -> None:
    first, second = make_job("job1"), make_job("job2")
    async with bench.worker():
        await bench.order(first)
        await bench.order(second)
        await wait_until(lambda: bench.has_state("job2", JobState.COMPLETED))
    one, two = await bench.last("job1"), await bench.last("job2")
    assert one is not None
    assert two is not None
    assert [a.sha256 for a in one.artifacts] == [a.sha256 for a in two.artifacts]


async def test_a_job_without_plates_is_drawn_once_and_its_plates_are_kept(bench: Bench, wait_until: WaitUntil) -> None:
    bench.bundle_dir = shipped_bundle_dir()
    spec = PatternSpec(prompt="red polka dots on white", model_digest=open_bundle(bench.bundle_dir).digest)
    first, second = (
        Job(id=job_id, origin="test", spec=spec, size_px=256, created_at=time.time()) for job_id in ("job1", "job2")
    )
    async with bench.worker():
        await bench.order(first)
        await wait_until(lambda: bench.has_state("job1", JobState.COMPLETED), timeout_s=60)
        await bench.order(second)
        await wait_until(lambda: bench.has_state("job2", JobState.COMPLETED))
    stored = await bench.objects.get(subjects.plates_path(pattern_key(spec)))
    assert stored is not None
    assert decode_plates(stored).model_digest == spec.model_digest
    drawn, found = await bench.last("job1"), await bench.last("job2")
    assert drawn is not None
    assert found is not None
    assert drawn.steps == found.steps + spec.num_inference_steps
    assert any(line.startswith("sampling: ") for line in drawn.log)
    assert [a.sha256 for a in drawn.artifacts] == [a.sha256 for a in found.artifacts]
