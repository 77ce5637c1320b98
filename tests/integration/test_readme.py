"""The README's Python, run as it stands there, against a whole system."""

import asyncio
import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).parents[2]


async def test_the_python_of_the_readme_runs_as_it_stands(start_up: Any, tmp_path: Path) -> None:
    system = await start_up()
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        code = block.replace("http://127.0.0.1:8080", system.url)
        assert code != block
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)
    with (
        Image.open(BytesIO((tmp_path / "paisley.webp").read_bytes())) as preview,
        Image.open(tmp_path / "paisley.png") as master,
        Image.open(tmp_path / "ogee.png") as picture,
    ):
        assert (preview.size, master.size) == ((256, 256), (1024, 1024))
        assert (picture.format, picture.size) == ("PNG", (1024, 1024))
