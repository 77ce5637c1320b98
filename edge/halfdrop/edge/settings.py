"""Settings of the edge process: HALFDROP_EDGE_<NAME> in the environment, read once."""

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from halfdrop.contracts.errors import InvalidInput
from halfdrop.contracts.subjects import LOCAL_REGION

PREFIX = "HALFDROP_EDGE_"
ADDRESS_TTL_MAX_S = 7 * 86_400.0
"""A week: the longest that a signed address of S3 can last, and as long an old signing key goes on verifying."""

ALIAS_OR_NONE = r"^([a-z0-9][a-z0-9._-]{0,63}@[a-z0-9][a-z0-9._-]{0,31})?\Z"
REGION = "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?"
REGION_LIST = rf"^{REGION}(,{REGION}){{0,15}}\Z"
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")


class EdgeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the edge process is told."""

    nats_url: str
    """The edge's own NATS server; the hub is reached through its leaf node."""

    redis_url: str
    """The region's Valkey or Redis: redis://host:port/0."""

    objects_url: str
    """The object store: file:///directory or s3://bucket/prefix."""

    data_dir: str
    """Directory for the disk tier of the cache; may be lost."""

    bundle_dir: str = ""
    """Directory of the model bundle; empty: the one shipped with the package."""

    model_alias: Annotated[str, Meta(pattern=ALIAS_OR_NONE)] = "house@stable"
    """Alias in the object store that says which published bundle to serve; swapped in while the edge serves. Where it
    means nothing yet, or this is empty, or `bundle_dir` names a directory, the edge stays with the bundle it has."""

    model_max_mib: Annotated[int, Meta(ge=1, le=65536)] = 512
    """Largest published bundle that is fetched, in MiB; three of them may lie on the disk. The house model has 20."""

    model_fetch_kib_s: Annotated[int, Meta(ge=16, le=10_000_000)] = 4096
    """Bandwidth for fetching a bundle, in KiB a second: the house model takes five seconds."""

    host: str = "127.0.0.1"
    """Address to listen on. One that others can reach asks them for keys."""

    access: Literal["", "open", "keys"] = ""
    """Who may ask: "open" lets in everybody as one tenant, on a loopback address only; "keys" wants an API key with
    each request. Empty: open on a loopback address, keys elsewhere."""

    address_ttl_s: Annotated[float, Meta(ge=60, le=ADDRESS_TTL_MAX_S)] = 3600.0
    """How long the address of a picture or file, from an edge that asks for keys, can be fetched without one. An hour:
    time to look and to download, and soon over for an address that went astray."""

    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    """TCP port; 0 takes a free one and logs it."""

    metrics_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """TCP port where Prometheus finds /metrics without a key; 0: none. GET /metrics on `port` is for admins' keys."""

    metrics_host: str = "127.0.0.1"
    """Address of that port. On one that others can reach, they can read how much is asked for, not what."""

    name: Annotated[str, Meta(pattern="^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")] = "local"
    """Name of this edge: part of its JetStream domain, and where the hub addresses statuses."""

    region: Annotated[str, Meta(pattern="^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")] = "local"
    """Name of the region: the edges that share a Redis. They tell each other what is asked for most."""

    hubs: Annotated[str, Meta(pattern=REGION_LIST)] = LOCAL_REGION
    """Regions whose hubs this edge reaches, home first: "eu,us". The edge's NATS server has a leaf node to each."""

    spill_factor: Annotated[float, Meta(ge=1, le=100)] = 2.0
    """An order leaves home when it would wait there so many times as long as elsewhere. Below 2 the files' way back
    often costs more than it saves."""

    spill_min_s: Annotated[float, Meta(ge=0, le=86_400)] = 5.0
    """And at least so many seconds longer: nobody sends a job overseas for a second."""

    prefetch_kib_s: Annotated[int, Meta(ge=0, le=10_000_000)] = 1024
    """Bandwidth for pictures that are hot in the region and missing here, in KiB a second; 0: none is fetched before
    it is asked for. A whole hot set of 30 KB pictures takes eight seconds."""

    preview_threads: Annotated[int, Meta(ge=0, le=64)] = 0
    """Previews drawn at once; 0: one for each core we may use."""

    previews_max: Annotated[int, Meta(ge=1, le=4096)] = 64
    """Previews drawn or waiting to be; more are refused with 429. At 20 ms each the last one waits about a second."""

    shelf_mib: Annotated[int, Meta(ge=1, le=65536)] = 64
    """Pictures kept as ready answers, in MiB: 2,000 of 30 KB."""

    memory_mib: Annotated[int, Meta(ge=1, le=65536)] = 16
    """Plates kept in memory, in MiB: 500."""

    disk_free_min_mib: Annotated[int, Meta(ge=0, le=2**30)] = 512
    """Free space, in MiB, below which the disk tier takes nothing in: orders and logs need the rest. 0: no bound."""
    body_s: Annotated[float, Meta(gt=0, le=600)] = 10.0
    """Time for the body of a request to arrive: 64 KiB at 7 KB/s."""

    answer_s: Annotated[float, Meta(gt=0, le=600)] = 30.0
    """Time until an answer begins, beside a wait that the client prefers. The slowest of a healthy edge is a preview
    behind a full queue, about a second."""

    batch_lines_max: Annotated[int, Meta(ge=1, le=100_000)] = 10_000
    """Lines of a batch: they take four seconds to check, and a byte each in its state."""

    batch_max_mib: Annotated[int, Meta(ge=1, le=256)] = 16
    """Size of a batch's body, in MiB: 10,000 lines of 1.6 KB. Up to four are held in memory at once."""

    batch_window: Annotated[int, Meta(ge=4, le=4096)] = 256
    """Orders of one batch that may be unfinished at once, if workers begin them at once: one batch does not fill OUTBOX
    or a hub's queue, and a pause finds little under way."""

    batch_s: Annotated[float, Meta(ge=0, le=3600)] = 120.0
    """Time that a batch's body and its answer may take beyond `body_s` and `answer_s`: 16 MiB at 140 KB/s."""

    batches_open_max: Annotated[int, Meta(ge=1, le=10_000)] = 50
    """Batches of one tenant that are not over; more are refused with 429."""

    webhook_private: bool = False
    """Deliver webhooks to private addresses, too: for a closed network whose tenants may reach all that the edge can.
    An open edge delivers to this machine's loopback addresses anyway, so that a developer can try."""

    webhook_http: bool = False
    """Deliver webhooks over http, too. What is sent can then be read, and signed addresses in it used, on the way."""

    templates_dir: str = ""
    """A folder of templates (.toml) beside those that are shipped; an edge with a wrong one in it does not start.
    Empty: the shipped ones alone."""

    grace_s: Annotated[float, Meta(gt=0, le=600)] = 10.0
    """Time for requests in flight when asked to stop."""

    settle_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    """After that, time to stay without serving until nothing is owed: orders brought to a hub and finished there, lines
    of batches placed, webhooks delivered. For an edge that may not be back soon; 0 for one that will."""


def is_open(settings: EdgeSettings) -> bool:
    """True if no key is asked for. Raises InvalidInput for an open edge that others could reach."""
    is_loopback = settings.host in LOOPBACK_HOSTS
    if settings.access == "open" and not is_loopback:
        allowed = f"keys, or {PREFIX}HOST on 127.0.0.1, ::1 or localhost; `halfdrop keys create` makes a key"
        raise InvalidInput(f"{PREFIX}ACCESS", got=f"open with {PREFIX}HOST {settings.host}", allowed=allowed)
    return settings.access == "open" or (is_loopback and settings.access != "keys")


def region_names(settings: EdgeSettings) -> list[str]:
    """Return the regions whose hubs are reached, home first.

    Raises InvalidInput if one is named twice, or `local` beside others: its subjects are every hub's.
    """
    names = settings.hubs.split(",")
    if len(set(names)) < len(names) or (len(names) > 1 and LOCAL_REGION in names):
        allowed = f"each region once, home first, none of several called {LOCAL_REGION}"
        raise InvalidInput(f"{PREFIX}HUBS", got=settings.hubs, allowed=allowed)
    return names


def count_threads(settings: EdgeSettings) -> int:
    """Return how many previews may be drawn at once."""
    return settings.preview_threads or len(os.sched_getaffinity(0))


def choose_bundle_dir(settings: EdgeSettings, shipped: Path) -> Path:
    """Return the directory of the model bundle."""
    return Path(settings.bundle_dir) if settings.bundle_dir else shipped
