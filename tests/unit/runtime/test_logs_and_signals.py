import json
import os
import signal
import subprocess
import sys

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


def test_both_signals_ask_a_process_to_stop_instead_of_ending_it() -> None:
    code = (
        "import asyncio, os, signal, sys\n"
        "from halfdrop.runtime.lifecycle import stop_on_signals\n"
        "async def main():\n"
        "    stop = stop_on_signals(); os.kill(os.getpid(), int(sys.argv[1])); await stop.wait(); print('in order')\n"
        "asyncio.run(main())"
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        ended = subprocess.run(
            [sys.executable, "-c", code, str(int(number))], capture_output=True, text=True, check=True
        )
        assert ended.stdout == "in order\n"
