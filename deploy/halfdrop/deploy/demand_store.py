"""Where the commands find the demand history, and what they say where its libraries are not installed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halfdrop.contracts.errors import InvalidInput, PermanentError

if TYPE_CHECKING:
    from halfdrop.runtime.objects import ObjectStore

INSTALL = ".venv/bin/python -m pip install -c requirements.lock --no-build-isolation -e '.[forecaster]'"

HistoryObjects = Annotated[
    str,
    typer.Option(
        "--objects",
        envvar="HALFDROP_FORECASTER_OBJECTS_URL",
        help="Object store of the history: s3://bucket/prefix. Left out: that of the `halfdrop up` in --data-dir.",
    ),
]


def open_history_objects(objects: str, data_dir: Path) -> "ObjectStore":
    """Return the object store of the history. Raises InvalidInput where neither names one."""
    import structlog  # noqa: PLC0415  keeps --help quick

    from halfdrop.runtime.objects import BlockingObjectStore, open_objects  # noqa: PLC0415

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    if objects:
        return open_objects(objects, kind=BlockingObjectStore)
    folder = data_dir / "objects"
    if not folder.is_dir():
        allowed = "the data directory of a `halfdrop up`, or --objects with the object store"
        raise InvalidInput("--data-dir", got=str(data_dir), allowed=allowed)
    return open_objects(folder.resolve().as_uri(), kind=BlockingObjectStore)


@contextmanager
def forecaster_installed() -> Iterator[None]:
    """Say what to install where an import inside the block finds nothing. Raises PermanentError(not-installed)."""
    try:
        yield
    except ModuleNotFoundError as error:
        detail = f"the demand history needs {error.name}, which is not installed here; {INSTALL}"
        raise PermanentError(detail, code="not-installed") from error
