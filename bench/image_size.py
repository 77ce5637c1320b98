"""What an edge's image holds beside Python: installed as deploy/install_part.sh does, slimmed, and seen to draw.

`pip install --target` of the edge extra by the lock, `slim.py`, byte code; then the real edge is started from that
directory alone, and must answer a preview. There is no Docker here, so the base image itself is not in the figure.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from measuring import ROOT, report

from halfdrop.contracts.subjects import HUB_DOMAIN, edge_domain
from halfdrop.deploy.ports import choose_port
from halfdrop.deploy.servers import run_nats_server, run_valkey
from halfdrop.deploy.slim import slim

MB = 1e6
START_LIMIT_S = 90.0
HEAVY = ("torch", "diffusers", "transformers", "onnx")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="install into this directory, and leave it there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="halfdrop-image-") as room:
        target = given.keep or Path(room) / "site"
        install(target)
        installed = size_bytes(target) - sum(size_bytes(path) for path in target.rglob("__pycache__"))
        freed = slim(target)
        subprocess.run([sys.executable, "-m", "compileall", "-q", target], check=False, stdout=subprocess.DEVNULL)
        parts = sorted(((size_bytes(path), path.name) for path in target.iterdir()), reverse=True)
        drawn = asyncio.run(draw_one(target, Path(room)))
    report(
        "image_size",
        {
            "site_mb": round(sum(size for size, _ in parts) / MB, 1),
            "before_slimming_mb": round(installed / MB, 1),
            "taken_out_mb": round(freed / MB, 1),
            "largest_mb": {name: round(size / MB, 1) for size, name in parts[:10]},
            "heavy_libraries": [name for _, name in parts if name in HEAVY],
            "preview_bytes": drawn,
        },
    )


def install(target: Path) -> None:
    options = ["--disable-pip-version-check", "-q", "--no-build-isolation", "--no-compile", "--target", str(target)]
    extra = f"{ROOT}[edge]"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "-c", ROOT / "requirements.lock", extra], check=True
    )


def size_bytes(path: Path) -> int:
    """Return the bytes of a file, or of all files below a directory."""
    return (
        path.stat().st_size
        if path.is_file()
        else sum(part.stat().st_size for part in path.rglob("*") if part.is_file())
    )


async def draw_one(target: Path, room: Path) -> int:
    """Start an edge with nothing but `target` on its path, and return the size of the preview that it answers with."""
    port = choose_port()
    async with (
        run_nats_server(name="hub", data_dir=room / "hub", domain=HUB_DOMAIN, leaf_port=0) as hub,
        run_nats_server(name="edge", data_dir=room / "nats", domain=edge_domain("b"), leaf_remote=hub.leaf_url) as nats,
        run_valkey(data_dir=room / "valkey") as valkey,
    ):
        settings = {
            "NAME": "b",
            "PORT": str(port),
            "NATS_URL": nats.url,
            "REDIS_URL": valkey.url,
            "OBJECTS_URL": (room / "objects").as_uri(),
            "DATA_DIR": str(room / "edge"),
        }
        environ = {f"HALFDROP_EDGE_{name}": value for name, value in settings.items()}
        environ |= {"PATH": os.environ["PATH"], "PYTHONPATH": str(target), "PYTHONNOUSERSITE": "1"}
        # -S: what is installed where this script runs is not seen.
        program = [sys.executable, "-S", "-m", "halfdrop.edge"]
        process = await asyncio.create_subprocess_exec(
            *program, env=environ, cwd=room, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            return await ask_preview(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            await process.wait()


async def ask_preview(url: str) -> int:
    deadline_s = time.monotonic() + START_LIMIT_S
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
        while True:
            try:
                answer = await client.post("/v1/previews", json={"prompt": "red dots on white"})
                answer.raise_for_status()
                (await client.get("/schema/openapi.json")).raise_for_status()
                return len(answer.content)
            except httpx.TransportError:
                if time.monotonic() > deadline_s:
                    raise
                await asyncio.sleep(0.2)


if __name__ == "__main__":
    main()
