"""The servers' programs are found inside their packages, or the person is told how to install them."""

import os
from importlib.metadata import PackageNotFoundError

import pytest

from halfdrop.contracts.errors import PermanentError
from halfdrop.deploy import binaries


def test_the_programs_are_found_and_may_be_run() -> None:
    for path in (binaries.locate_nats_server(), binaries.locate_valkey_server()):
        assert os.access(path, os.X_OK)
        assert path.stat().st_size > 1_000_000


def test_a_missing_program_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_found(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(binaries, "distribution", not_found)
    with pytest.raises(PermanentError, match=r"nats-server is not installed.*make setup.*requirements-binaries\.lock"):
        binaries.locate_nats_server()
