"""Take out of an installed directory what no process of its image ever reads: `python slim.py DIR`.

For the container files, which install with `pip install --target DIR`. Standard library only, and no import of ours: it
runs before anything is installed. `bench/image_size.py` sees that an edge still imports, and draws, without these.
"""

import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

UNREAD = (
    "bin",  # entry points of libraries; we start with python -m
    "onnxruntime/transformers",  # converts others' models
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/datasets",
    "numpy/_core/include",  # C headers
    "numpy/_core/lib",
    "faker",  # Litestar's optional made-up examples (through polyfactory); ours are written by hand
    "polyfactory",
    "**/tests",
    "**/*.pyi",
    "**/__pycache__",  # written anew, for the Python of the image
)
FORTRAN = "numpy/f2py"
"""Unread, but where SciPy is: it looks at every name that NumPy has, and cannot be imported without."""

MODELS = "halfdrop/models/weights"
"""20 MB that only an edge and a hub read."""

HUB_ONLY = (f"{MODELS}/judge-*", f"{MODELS}/house-render-*")


def main(arguments: list[str]) -> int:
    """Slim the directory that is named; `--without-models` for processes that draw nothing."""
    options = {name for name in arguments if name.startswith("--")}
    directories = [name for name in arguments if not name.startswith("--")]
    if len(directories) != 1 or options - {"--without-models"}:
        sys.stderr.write(f"slim: got {' '.join(arguments) or 'nothing'}; allowed: [--without-models] DIR\n")
        return 1
    root = Path(directories[0])
    freed_bytes = slim(root, MODELS if options else "")
    sys.stdout.write(f"slim: {freed_bytes / 2**20:.1f} MiB out of {root}\n")
    return 0


def slim(root: Path, *also: str) -> int:
    """Remove what is not read below `root`, and what matches `also`; return the bytes."""
    freed_bytes = 0
    unread = (*UNREAD, *HUB_ONLY, "" if (root / "scipy").exists() else FORTRAN, *also)
    for path in sorted(set(_unread(root, filter(None, unread)))):
        if path.is_dir():
            freed_bytes += sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            shutil.rmtree(path)
        elif path.exists():
            freed_bytes += path.stat().st_size
            path.unlink()
    return freed_bytes


def _unread(root: Path, patterns: Iterable[str]) -> Iterator[Path]:
    for pattern in patterns:
        yield from root.glob(pattern)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
