"""Names on the wire: JetStream domains, streams and subjects, and paths in the object store.

An edge's streams and a hub's never share a subject: a leaf node carries every subject both ways, so a shared one
would land on both.
"""

HUB_DOMAIN = "hub"

OUTBOX_STREAM = "OUTBOX"
"""On the edge's own server, work queue: orders accepted, not yet with the hub."""

ORDERS_BUCKET = "ORDERS"
"""On the edge's own server, key-value: the newest status of each order that this edge accepted."""

ORDERS_STREAM = f"KV_{ORDERS_BUCKET}"
"""The stream beneath that bucket."""

IDEMPOTENCY_BUCKET = "IDEMPOTENCY"
"""On the edge's own server, key-value: what each Idempotency-Key stands for."""

JOBS_STREAM = "JOBS"
"""On the hub's server, work queue: orders waiting for a worker."""

EVENTS_STREAM = "EVENTS"
"""On the hub's server: every status of every job, newest last, kept for days."""

CANCELS_STREAM = "CANCELS"
"""On the hub's server: one message for each job that must not run (any more). A stream and not a key-value bucket,
because a leaf node carries plain subjects both ways but not a bucket's puts. A worker asks it for the last message of
a job's subject before it starts, and listens to the same subject while it runs."""

DEAD_STREAM = "DEAD"
"""On the hub's server: jobs given up on, with the cause."""

DEMAND_STREAM = "DEMAND"
"""On the hub's server: what edges and hubs tell of each minute's demand, for the forecaster to keep."""

DEMAND_OUT_STREAM = "DEMAND_OUT"
"""On the edge's own server, work queue: what it tells of demand, not yet with the hub."""

POLICY_BUCKET = "POLICY"
"""On the hub's server, key-value: what operators change while it runs."""

DRAINING_KEY = "draining"
"""In it: JSON true while the region shall take no new jobs."""


POLICY_BUCKET = "POLICY"
"""On the hub's server, key-value: what an operator decided, such as the classes' weights and tenants' caps."""


LOCAL_REGION = "local"
"""Where there is one region only, this is its name."""


def hub_domain(region: str) -> str:
    """JetStream domain of a region's hub."""
    return HUB_DOMAIN if region == LOCAL_REGION else f"{HUB_DOMAIN}-{region}"


def worker_state(region: str, worker: str) -> str:
    """Plain subject, in no stream: what a worker knows of its pool, every second. Leaf nodes carry it to the edges."""
    return f"pools.{region}.{worker}"


def at_hub(region: str, subject: str) -> str:
    """Where an edge publishes what one region's hub alone shall store as `subject`.

    A leaf node carries a subject to every server that it is linked to, so a named region's server listens to its own
    and maps it (`hub_mappings`); one without that mapping answers nothing, and counts as away.
    """
    return subject if region == LOCAL_REGION else f"to.{region}.{subject}"


def hub_mappings(region: str) -> dict[str, str]:
    """Subject mappings that the NATS server of a region's hub needs."""
    if region == LOCAL_REGION:
        return {}
    return {at_hub(region, subject): subject for subject in ("jobs.>", "cancels.>", "demand.>")}


def edge_domain(edge: str) -> str:
    """JetStream domain of an edge's own server."""
    return f"edge-{edge}"


def order_status(job_id: str) -> str:
    """Where the bucket ORDERS keeps an order's status."""
    return f"$KV.{ORDERS_BUCKET}.{job_id}"


def outbox_job(job_id: str) -> str:
    return f"outbox.job.{job_id}"


def outbox_cancel(job_id: str) -> str:
    return f"outbox.cancel.{job_id}"


def queued_job(job_class: str, tenant: str) -> str:
    """Where a job waits: its lane. Its id is in Nats-Msg-Id, so that a stream of 100,000 jobs has a handful of subjects
    and tells at once how many wait in each. (A release before this one ended the subject with the id.)"""
    return f"jobs.{job_class}.{tenant}"


def heard_jobs(region: str) -> str:
    """Plain subjects, in no stream: below this one JOBS repeats the headers of what it stored under jobs.…, for workers
    that wait. The region stands in it because an edge may be a leaf of several hubs, and carries what either wants."""
    return f"queued.{region}"


def taken_jobs(region: str) -> str:
    """Plain subject, in no stream: what workers took and settled, for the others of their pool."""
    return f"taken.{region}"


def demand_report(region: str, member: str) -> str:
    """Where a member tells of demand."""
    return f"demand.{region}.{member}"


def outgoing_demand(member: str) -> str:
    """Where an edge keeps what it tells of demand until the hub has it."""
    return f"outdemand.{member}"


def job_event(origin: str, job_id: str) -> str:
    return f"events.{origin}.{job_id}"


def dead_job(job_id: str) -> str:
    return f"dead.{job_id}"


def cancel_job(job_id: str) -> str:
    return f"cancels.{job_id}"


def hot_pictures(region: str) -> str:
    """Plain subject, in no stream: what each edge of the region is asked for most. Lost messages are not missed."""
    return f"hot.{region}"


LOCAL_TENANT = "local"
"""Whose patterns lie where they lay before there were tenants."""


def spec_path(pattern_key: str) -> str:
    """The canonical spec, which says how the plates repeat."""
    return f"patterns/{pattern_key[:2]}/{pattern_key}/spec.json"


def tenant_folder(tenant: str) -> str:
    """Folder of the object store that holds a tenant's patterns; those of the local tenant lie in none."""
    return f"tenants/{tenant}"


def plates_path(pattern_key: str) -> str:
    return f"patterns/{pattern_key[:2]}/{pattern_key}/plates.msgpack"


def unit_path(pattern_key: str) -> str:
    """What a user's checkpoint painted."""
    return f"patterns/{pattern_key[:2]}/{pattern_key}/unit.msgpack"


def preview_path(pattern_key: str, size_px: int) -> str:
    return f"patterns/{pattern_key[:2]}/{pattern_key}/preview-{size_px}.webp"


def artifact_path(tenant: str, job_id: str, name: str) -> str:
    return f"jobs/{tenant}/{job_id}/{name}"


BUNDLES_FOLDER = "models"


def bundle_path(digest: str, name: str) -> str:
    """A file of a published model bundle; `name` is its path inside the bundle."""
    return f"{BUNDLES_FOLDER}/{digest}/{name}"


ALIASES_FOLDER = "model-aliases"


def bundle_alias_path(alias: str) -> str:
    """Which published bundle an alias such as house@stable means in this region."""
    return f"{ALIASES_FOLDER}/{alias}.json"
