"""Write requirements.lock from pip's own report: `python lock.py REPORT.json > requirements.lock`.

`make lock` lets pip resolve everything in a fresh environment and hands its report to this. Standard library only:
it runs where nothing is installed yet.
"""

import json
import re
import sys
from pathlib import Path

HEADER = """\
# Exact versions of everything that Halfdrop's extras need, written by `make lock`; used as constraints (pip -c).
# Reasons stand in docs/dependencies.md. The server programs stand, with hashes, in requirements-binaries.lock.
"""

OURSELVES = "halfdrop"


def render_lock(report: dict[str, list[dict[str, dict[str, str]]]]) -> str:
    """Return the lock's text for an installation report of pip.

    A local version ("2.13.0+cpu") is cut to its public part, so that a machine may take another build of the same
    release.
    """
    pins = {normalise_name(item["metadata"]["name"]): item["metadata"]["version"] for item in report["install"]}
    lines = [f"{name}=={pins[name].partition('+')[0]}\n" for name in sorted(pins) if name != OURSELVES]
    return HEADER + "".join(lines)


def normalise_name(name: str) -> str:
    """Return a distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(text: str) -> dict[str, str]:
    """Return the version of each distribution in a lock's text."""
    rows = (line.split(";")[0].split("--hash")[0].strip(" \\") for line in text.splitlines())
    return {normalise_name(name): version for name, _, version in (row.partition("==") for row in rows) if version}


if __name__ == "__main__":
    sys.stdout.write(render_lock(json.loads(Path(sys.argv[1]).read_text())))
