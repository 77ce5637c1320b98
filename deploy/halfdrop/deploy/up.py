"""`halfdrop up`: the whole system on this machine, with embedded servers.

Check, hold the data directory, start the parts in order, say `ready`, keep them running, stop them in reverse.
Ctrl-C, SIGTERM or a closed terminal stops in order; a second Ctrl-C kills what is left.
"""

import asyncio
import importlib.util
import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated

import msgspec

from halfdrop.contracts.errors import HalfdropError, InvalidInput, PermanentError
from halfdrop.contracts.subjects import LOCAL_REGION, edge_domain, hub_domain, hub_mappings
from halfdrop.deploy.binaries import locate_nats_server, locate_valkey_server
from halfdrop.deploy.folder import DataFolder
from halfdrop.deploy.log_watch import LogWatch, watch_logs
from halfdrop.deploy.parts import Part
from halfdrop.deploy.ports import LOOPBACK, choose_port, is_free
from halfdrop.deploy.processes import EDGE_NAME, make_edge, make_forecaster, make_hub
from halfdrop.deploy.room import watch_room
from halfdrop.deploy.servers import NatsServer, make_nats_server, make_valkey
from halfdrop.deploy.supervisor import Supervisor, open_tasks

PORT = 8080
PLANNER_PORT = 8090
DATA_DIR = Path("data")
HUBS_MAX = 16

REGION = "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?"
REGIONS = rf"^{REGION}(,{REGION}){{0,3}}\Z"
"""At most four: each has a NATS server of its own, and workers."""

EXAMPLE = "red polka dots on white, half-drop"

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class UpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `halfdrop up` can be told."""

    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = PORT
    """Where the edge serves, on the loopback address; 0 chooses a free one."""

    planner_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = PLANNER_PORT
    """Where the planner's page is, on the loopback address; 0 chooses a free one, as a `port` of 0 does for both."""

    data_dir: Path = DATA_DIR
    """Where everything is kept. A second start on it continues where the first stopped."""

    hubs: Annotated[int, msgspec.Meta(ge=0, le=HUBS_MAX)] = 1
    """Hub workers in each region. With none, previews are served and orders wait."""

    regions: Annotated[str, msgspec.Meta(pattern=REGIONS)] = LOCAL_REGION
    """Regions with a hub each, home first: "eu,us". One named local is what there is without this."""

    metrics_port: Annotated[int, msgspec.Meta(ge=0, le=65535 - HUBS_MAX - 1)] = 0
    """Where Prometheus finds the edge's metrics without a key; those of the hubs are on the ports after it, and behind
    them the forecaster's. 0: none."""

    @property
    def region_names(self) -> list[str]:
        """The regions, home first."""
        return list(dict.fromkeys(self.regions.split(",")))

    @property
    def workers(self) -> int:
        """Hub workers in all regions."""
        return self.hubs * len(self.region_names)


def up_command(
    *,
    port: int = PORT,
    planner_port: int = PLANNER_PORT,
    data_dir: Path = DATA_DIR,
    hubs: int = 1,
    metrics_port: int = 0,
    regions: str = LOCAL_REGION,
) -> int:
    """Run the system until it is stopped. Returns the exit status; says what is wrong in one line on stderr."""
    try:
        if LOCAL_REGION in regions.split(",") and regions != LOCAL_REGION:
            raise InvalidInput("--regions", got=regions, allowed=f"names other than {LOCAL_REGION}")
        settings = _check_settings(
            port=port,
            planner_port=planner_port,
            data_dir=data_dir,
            hubs=hubs,
            metrics_port=metrics_port,
            regions=regions,
        )
        return asyncio.run(run_up(settings))
    except HalfdropError as error:
        sys.stderr.write(f"halfdrop up: {error}\n")
    except OSError as error:
        sys.stderr.write(f"halfdrop up: {error}; nothing was left running\n")
    return 1


async def run_up(settings: UpSettings) -> int:
    """Run the system until a signal stops it, then return 0.

    Raises PermanentError, with nothing left running, if it cannot start or a part cannot be kept alive.
    """
    check_programs()
    folder = DataFolder(settings.data_dir)
    folder.prepare()
    with folder.hold():
        for name in folder.end_leftovers():
            say(f"ended {name}, left over from a start that was killed")
        port = choose_port() if settings.port == 0 else check_port(settings.port)
        settings = msgspec.structs.replace(settings, planner_port=_choose_planner_port(settings))
        if settings.metrics_port:
            for number in range(settings.workers + 2):
                check_port(settings.metrics_port + number, option="--metrics-port")
        supervisor = Supervisor(folder=folder, url=f"http://{LOOPBACK}:{port}", say=say)
        stopping = _Stopping(supervisor)
        try:
            await _run_parts(settings, folder, supervisor, port)
        except asyncio.CancelledError:
            if not stopping.requested:
                raise
    say("stopped; a second start continues from here")
    return 0


def check_programs() -> None:
    """See that the servers' programs are installed. Raises PermanentError(binary-missing)."""
    locate_nats_server()
    locate_valkey_server()


def check_port(port: int, *, option: str = "--port") -> int:
    """Return `port` if it is free. Raises PermanentError(port-taken)."""
    if not is_free(port):
        raise PermanentError(
            f"port {port} is taken by another program; choose another with {option}", code="port-taken"
        )
    return port


def say(line: str) -> None:
    """Show one line to the person at the terminal; a terminal that went away is no reason to stop working."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except (OSError, ValueError):
        return


class _Stopping:
    """Turns signals into a stop: the first cancels the task that made this, any later one kills the children."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.requested = False
        self._supervisor = supervisor
        self._task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            # nohup's wish is respected. SIGINT is not: a shell starts background commands with it ignored, and who
            # sends it to one by name means it.
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: signal.Signals) -> None:
        if self.requested:
            if number is signal.SIGINT:  # make, too, passes SIGTERM on; only a person presses Ctrl-C twice
                say("killing what is left")
                self._supervisor.kill_all()
            return
        self.requested = True
        say("stopping … (Ctrl-C again kills)")
        assert self._task is not None
        self._task.cancel()


async def _run_parts(settings: UpSettings, folder: DataFolder, supervisor: Supervisor, port: int) -> None:
    """Start everything, announce it, keep it running until cancelled; everything is stopped on the way out."""
    began = time.monotonic()
    say(f"halfdrop starts; data in {folder.root}, logs in {folder.logs}")
    *stages, late = plan_stages(settings, folder, port)
    async with supervisor.running(stages):
        _announce(port, seconds=time.monotonic() - began, planner_port=settings.planner_port if late else 0)
        await supervisor.start_stage(late)  # nobody waits for it
        stages.append(late)
        logs = [LogWatch(part.name, part.process.log_path) for part in chain(*stages)]
        async with open_tasks() as group:
            group.create_task(watch_logs(logs, say))
            group.create_task(
                watch_room(folder, [part for part in chain(*stages) if isinstance(part, NatsServer)], say)
            )
            group.create_task(supervisor.keep_running())


def plan_stages(settings: UpSettings, folder: DataFolder, port: int) -> list[list[Part]]:
    """Return the parts, not started, in the order of their start; those of one stage start side by side.

    The last stage is what nobody needs at once: the system is ready before it.
    """
    regions = settings.region_names
    nats_hubs = {region: _make_hub_nats(region, folder) for region in regions}
    nats_edge = make_nats_server(
        name=edge_domain(EDGE_NAME),
        data_dir=folder.nats_edge,
        domain=edge_domain(EDGE_NAME),
        leaf_remote=[server.leaf_url for server in nats_hubs.values() if server.leaf_url],
        log_path=folder.logs / "nats-edge.log",
    )
    valkey = make_valkey(data_dir=folder.valkey, log_path=folder.logs / "valkey.log")
    objects_url = folder.objects.resolve().as_uri()
    edge = make_edge(
        port=port,
        nats_url=nats_edge.url,
        redis_url=valkey.url,
        objects_url=objects_url,
        data_dir=folder.edge,
        log_path=folder.logs / "edge.log",
        metrics_port=settings.metrics_port,
        regions=regions,
    )
    numbered = enumerate(((region, place) for region in regions for place in range(1, settings.hubs + 1)), 1)
    hubs = [
        make_hub(
            name=_hub_name(region, place),
            nats_url=nats_hubs[region].url,
            objects_url=objects_url,
            log_path=folder.logs / f"{_hub_name(region, place)}.log",
            metrics_port=settings.metrics_port and settings.metrics_port + number,
            region=region,
            models_dir=Path(os.environ.get("HALFDROP_MODELS_DIR", "") or folder.models),
        )
        for number, (region, place) in numbered
    ]
    return [list(nats_hubs.values()), [nats_edge, valkey], [edge, *hubs], _make_late(settings, folder, nats_hubs)]


def _make_late(settings: UpSettings, folder: DataFolder, nats_hubs: Mapping[str, NatsServer]) -> list[Part]:
    """Return the forecaster; where its libraries are not installed, what members tell stays in NATS for a week."""
    if importlib.util.find_spec("pyarrow") is None:
        say("  no forecaster: pip install 'halfdrop[forecaster]' for it; demand is kept for a week until then")
        return []
    return [
        make_forecaster(
            hubs={region: server.url for region, server in nats_hubs.items()},
            objects_url=folder.objects.resolve().as_uri(),
            log_path=folder.logs / "forecaster.log",
            metrics_port=settings.metrics_port and settings.metrics_port + settings.workers + 1,
            planner_port=settings.planner_port,
        )
    ]


def _make_hub_nats(region: str, folder: DataFolder) -> NatsServer:
    name = "hub" if region == LOCAL_REGION else f"hub-{region}"
    return make_nats_server(
        name=name,
        data_dir=folder.nats_of(region),
        domain=hub_domain(region),
        leaf_port=0,
        mappings=hub_mappings(region),
        log_path=folder.logs / f"nats-{name}.log",
    )


def _hub_name(region: str, place: int) -> str:
    return f"hub-{place}" if region == LOCAL_REGION else f"hub-{region}-{place}"


def _choose_planner_port(settings: UpSettings) -> int:
    """Return where the planner's page goes: on a port of its own, so that two systems of a test never meet."""
    if settings.planner_port == 0 or (settings.port == 0 and settings.planner_port == PLANNER_PORT):
        return choose_port()
    return check_port(settings.planner_port, option="--planner-port")


def _announce(port: int, *, seconds: float, planner_port: int = 0) -> None:
    url = f"http://{LOOPBACK}:{port}"
    command = _own_command()
    where = "" if port == PORT else f" --url {url}"
    body = json.dumps({"prompt": EXAMPLE})
    curl = f"curl -s {url}/v1/previews -H 'content-type: application/json' -d {shlex.quote(body)} -o pattern.webp"
    say(f"ready {url}")
    say(f"  started in {seconds:.1f} s; try:")
    say(f"  in a browser    {url}/")
    if planner_port:
        say(f"  the planner     http://{LOOPBACK}:{planner_port}/")
    say(f"  with curl       {curl}")
    say(f"  a preview       {command} preview {shlex.quote(EXAMPLE)} -o pattern.webp{where}")
    say(f"  a print file    {command} render {shlex.quote(EXAMPLE)} --size 4096 -o pattern.png{where}")
    say("  Ctrl-C stops everything")


def _own_command() -> str:
    """Return how the person can call `halfdrop`: by its name where that finds it, else by the environment's path."""
    if shutil.which("halfdrop"):
        return "halfdrop"
    program = Path(sys.executable).with_name("halfdrop")
    return str(program.relative_to(Path.cwd())) if program.is_relative_to(Path.cwd()) else str(program)


def _check_settings(**given: object) -> UpSettings:
    try:
        return msgspec.convert(given, UpSettings, dec_hook=lambda kind, value: kind(value))
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        name = path.rstrip("`")
        raise InvalidInput(f"--{name.replace('_', '-')}", got=given.get(name), allowed=reason) from error
