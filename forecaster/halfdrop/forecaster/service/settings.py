"""Settings of the planner, the page and what it shows: HALFDROP_PLANNER_<NAME> in the environment, read once."""

from typing import Annotated

import msgspec
from msgspec import Meta

PREFIX = "HALFDROP_PLANNER_"
PORT = 8090


class PlannerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the planner is told."""

    history: str = ""
    """A file of one's own weeks to look at instead of a live system; as `--history`."""

    serve: bool = True
    """Whether the process plans and serves the page; false: it keeps the demand history and nothing else."""

    pools: str = ""
    """TOML of the pools to plan, a `[[pool]]` for each; empty: each region is a pool with assumed prices and boots."""

    host: str = "127.0.0.1"
    """Address to listen on. The page asks nobody for a key: put what does in front of it before others can reach it."""

    port: Annotated[int, Meta(ge=0, le=65535)] = PORT
    """Where page and API are served; 0 chooses a free one and logs it."""

    hosts: str = ""
    """Names, beside those of this machine, that a browser may know us by, with commas between them. Others are refused,
    so that a strange page cannot make a browser talk to us under a name of its own."""

    shards: Annotated[int, Meta(ge=0, le=64)] = 0
    """Processes that work the series; 0: one for each core, four at most. Each works some thousands a minute."""

    learn_days: Annotated[int, Meta(ge=1, le=90)] = 21
    """Of the past that pools and sums learn from at a start, about ten seconds of one core for each. Calibration
    remembers 8 days; what-ifs replay what comes after those."""

    days_kept: Annotated[int, Meta(ge=2, le=400)] = 92
    """Of minutes in memory, 3.7 MB for each series that is told of every minute of 92 days."""

    grace_s: Annotated[float, Meta(ge=0, le=60)] = 5.0
    """How long requests in flight may go on after a signal."""
