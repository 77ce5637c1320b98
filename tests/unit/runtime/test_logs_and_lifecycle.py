import json
import os
import signal
import subprocess
import sys
import time

LOG_A_FAILURE = """
import logging, structlog
from halfdrop.runtime.logs import configure_logs
configure_logs("edge")
prompt = "a very secret prompt"
structlog.get_logger().info("pattern_made", key="k1")
logging.getLogger("nats").warning("slow %s", "consumer")
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger().exception("pattern_failed", key="k1")
"""


def run_python(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **environ}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)


def test_each_log_line_is_one_json_object_that_names_its_process() -> None:
    lines = [json.loads(line) for line in run_python(LOG_A_FAILURE, HALFDROP_LOG="json").stderr.splitlines()]
    assert [line["event"] for line in lines] == ["pattern_made", "slow consumer", "pattern_failed"]
    assert {line["process"] for line in lines} == {"edge"}


def test_a_logged_exception_does_not_carry_local_variables() -> None:
    for form in ("json", "text"):
        written = run_python(LOG_A_FAILURE, HALFDROP_LOG=form).stderr
        assert "ZeroDivisionError" in written
        assert "secret" not in written


def test_a_child_ends_when_its_supervisor_is_killed() -> None:
    child = (
        "import os, sys, time\n"
        "from halfdrop.runtime.lifecycle import die_with_parent\n"
        "die_with_parent(); print(os.getpid(), flush=True); time.sleep(60)"
    )
    parent = (
        "import os, subprocess, sys\n"
        "env = {**os.environ, 'HALFDROP_PARENT_PID': str(os.getpid())}\n"
        f"subprocess.run([sys.executable, '-c', {child!r}], env=env)"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        supervisor.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while _is_running(pid):
        assert time.monotonic() < deadline, "the child outlived its supervisor"
        time.sleep(0.02)


def _is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
