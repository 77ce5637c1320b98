"""The doctor: each thing that can be wrong is a finding with advice, and nothing it looks at makes it fail."""

import socket
from pathlib import Path

import pytest

from halfdrop.contracts.errors import PermanentError
from halfdrop.deploy import doctor
from halfdrop.deploy.doctor import Finding, look_at_data_dir, look_at_edge, look_at_packages, run_doctor
from halfdrop.deploy.ports import choose_port


def find(findings: list[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)


def test_a_finding_that_is_not_ok_always_has_advice(tmp_path: Path) -> None:
    findings = run_doctor(url=f"http://127.0.0.1:{choose_port()}", data_dir=tmp_path / "data")
    assert [finding.name for finding in findings] == [
        *("Python", "machine", "packages", "nats-server", "valkey-server", "model bundle", "data directory", "edge")
    ]
    assert all(finding.advice for finding in findings if finding.state != "ok")
    assert find(findings, "nats-server").detail == "2.15.1"
    assert not (tmp_path / "data").exists(), "the doctor changes nothing"


def test_an_edge_that_is_not_there_is_a_warning_with_the_command_that_starts_it() -> None:
    finding = look_at_edge(f"http://127.0.0.1:{choose_port()}")
    assert (finding.state, finding.advice) == ("warning", "start it: make up, or halfdrop up")


def test_a_port_taken_by_a_stranger_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PROBE_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        finding = look_at_edge(f"http://127.0.0.1:{stranger.getsockname()[1]}")
    assert finding.state == "error"
    assert "halfdrop up --port" in finding.advice


def test_a_data_directory_under_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finding = look_at_data_dir(tmp_path / "file" / "data")
    assert finding.state == "error"
    assert "--data-dir" in finding.advice


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = doctor._installed_version
    monkeypatch.setattr(doctor, "_installed_version", lambda name: None if name == "granian" else installed(name))
    finding = look_at_packages()
    assert (finding.state, finding.detail, finding.advice) == ("error", "missing: granian", "make setup")


def test_a_missing_server_program_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing() -> Path:
        raise PermanentError("no", code="binary-missing")

    monkeypatch.setattr(doctor, "locate_nats_server", missing)
    finding = find(run_doctor(data_dir=tmp_path), "nats-server")
    assert finding.state == "error"
    assert "requirements-binaries.lock" in finding.advice
