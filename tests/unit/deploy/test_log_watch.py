"""The log watch: people see warnings, files stay bounded, nothing is shown twice."""

from pathlib import Path

import pytest

from halfdrop.deploy import log_watch
from halfdrop.deploy.log_watch import LINES_MAX, LogWatch, pass_warnings, read_warning


@pytest.mark.parametrize(
    "line",
    [
        '{"event":"job_completed","level":"info"}',
        "[77] 2026/11/22 04:23:08.497172 [INF] Starting nats-server",
        "77:M 22 Nov 2026 04:23:08.497 # WARNING Memory overcommit must be enabled!",
        "   ",
        '  File "worker.py", line 7, in run',
    ],
)
def test_ordinary_lines_stay_in_the_file(line: str) -> None:
    assert read_warning(line) is None


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            '{"event":"redis_unavailable","level":"warning","timestamp":"2026","process":"edge","retry_after_s":2}',
            "warning redis_unavailable retry_after_s=2",
        ),
        (
            '{"event":"not_stored","level":"error","error":"no space\\n\\nDebug"}',
            "error not_stored error=no space Debug",
        ),
        ('{"event":"job_failed","level":"error","exception":[{"frames":[]}]}', "error job_failed"),
        ("[77] 2026/11/22 04:23:08 [ERR] no space left", "[77] 2026/11/22 04:23:08 [ERR] no space left"),
        ("ValueError: no such bundle", "ValueError: no such bundle"),
        ('{"torn', '{"torn'),
    ],
)
def test_warnings_and_tracebacks_are_shown(line: str, shown: str) -> None:
    assert read_warning(line) == shown


def test_only_what_is_new_is_shown_and_only_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "edge.log"
    path.write_text("from an earlier start\n")
    said: list[str] = []
    watch = LogWatch("edge", path)

    with path.open("a") as log:
        log.write("first\nsec")
    pass_warnings(watch, said.append)
    assert said == ["edge: first"]

    with path.open("a") as log:
        log.write("ond\n")
    pass_warnings(watch, said.append)
    assert said == ["edge: first", "edge: second"]


def test_a_flood_is_counted_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "hub-1.log"
    watch = LogWatch("hub-1", path)
    path.write_text("broken\n" * 1000)
    said: list[str] = []
    pass_warnings(watch, said.append)
    assert len(said) == LINES_MAX + 1
    assert said[-1] == f"hub-1: … {1000 - LINES_MAX} more in {path}"


def test_a_long_log_is_cut_while_its_writer_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_watch, "LOG_MAX_BYTES", 100)
    path = tmp_path / "edge.log"
    said: list[str] = []
    with path.open("ab", buffering=0) as writer:
        watch = LogWatch("edge", path)
        writer.write(b"a" * 150 + b"\n")
        pass_warnings(watch, said.append)
        assert path.stat().st_size == 0
        assert (tmp_path / "edge.log.1").stat().st_size == 151
        writer.write(b"after\n")
        pass_warnings(watch, said.append)
    assert path.read_text() == "after\n"
    assert said[-1] == "edge: after"
