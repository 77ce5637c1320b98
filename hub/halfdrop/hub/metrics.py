"""Every metric of a hub worker, named in one place and read from its tally when Prometheus asks.

A hub has no HTTP server of its own: HALFDROP_HUB_METRICS_PORT opens one for /metrics. The queue itself is not here:
JOBS belongs to the NATS server, whose own exporter tells how many wait in it.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version

from prometheus_client.core import Metric

from halfdrop.contracts.jobs import Job
from halfdrop.hub.delivery import Delivery
from halfdrop.hub.outcomes import Outcome, Verdict
from halfdrop.hub.sampler import Sampler
from halfdrop.runtime.demand import DemandCounter
from halfdrop.runtime.durations import QUEUE_BOUNDS_S, Durations, DurationsBy
from halfdrop.runtime.exposition import Family

BUILD = Family(name="halfdrop_hub_build_info", kind="gauge", meaning="1; who this is", labels=("version",))
JOBS = Family(
    name="halfdrop_hub_jobs_total",
    kind="counter",
    meaning="deliveries by how they ended: complete, repeat (finished before), cancel, retry, bury (given up on), "
    "yield (another region runs it), unreadable, abandoned (the server could not be told)",
    labels=("outcome",),
)
ERRORS = Family(
    name="halfdrop_hub_job_errors_total",
    kind="counter",
    meaning="why jobs were retried or given up on",
    labels=("code",),
)
DELIVERIES = Family(
    name="halfdrop_hub_deliveries_total", kind="counter", meaning="jobs received: first, again", labels=("attempt",)
)
IN_HAND = Family(name="halfdrop_hub_jobs_in_hand", kind="gauge", meaning="jobs being worked on now")
TAKEN = Family(
    name="halfdrop_hub_jobs_taken_total",
    kind="counter",
    meaning="jobs taken, by class, and why their lane was next: share (its turn by weight), age (passed over for long)",
    labels=("class", "reason"),
)
QUEUE_WAIT = Family(
    name="halfdrop_hub_queue_wait_seconds", kind="histogram", meaning="from JOBS' storing a job to its first delivery"
)
DURATION = Family(
    name="halfdrop_hub_job_duration_seconds",
    kind="histogram",
    meaning="one delivery, from its bytes to its answer",
    labels=("outcome",),
)
STAGES = Family(
    name="halfdrop_hub_stage_duration_seconds",
    kind="histogram",
    meaning="sampling, refining, composing, gates, master, separations, drawing, proof, formats by their names, "
    "colourways, each with its uploads; upload: one file",
    labels=("stage",),
)
DEMAND_TOLD = Family(
    name="halfdrop_hub_demand_told_total",
    kind="counter",
    meaning="minutes of demand that this worker told of, once DEMAND had them",
)
DEMAND_LOST = Family(
    name="halfdrop_hub_demand_lost_total",
    kind="counter",
    meaning="of those, given up because nobody took them for days",
)
MODEL_LOAD = Family(
    name="halfdrop_hub_model_load_seconds",
    kind="gauge",
    meaning="how long the model was loaded from disk; absent until it was",
    labels=("model",),
)
ROUNDS = Family(name="halfdrop_hub_rounds_total", kind="counter", meaning="calls of the denoising engine")
STEPS = Family(
    name="halfdrop_hub_steps_total",
    kind="counter",
    meaning="denoising steps of jobs; several in a round where jobs meet",
)
BUSY = Family(name="halfdrop_hub_rounds_seconds_total", kind="counter", meaning="time that rounds took")
OUT_OF_MEMORY = Family(
    name="halfdrop_hub_out_of_memory_total", kind="counter", meaning="calls that did not fit and were split"
)
MODEL_LOADS = Family(name="halfdrop_hub_model_loads_total", kind="counter", meaning="models loaded")
MODEL_EVICTIONS = Family(
    name="halfdrop_hub_model_evictions_total", kind="counter", meaning="models that gave way to others"
)
MODEL_BYTES = Family(name="halfdrop_hub_models_bytes", kind="gauge", meaning="memory that loaded models take")

FAMILIES = tuple(value for value in list(globals().values()) if isinstance(value, Family))

UNREADABLE, ABANDONED = "unreadable", "abandoned"
OUTCOMES = (*(verdict.value for verdict in Verdict), UNREADABLE, ABANDONED)


class Tally:
    """What one worker did since its start; counted on the event loop."""

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str]] = Counter({(name,): 0 for name in OUTCOMES})
        self.errors: Counter[tuple[str]] = Counter()
        self.deliveries: Counter[tuple[str]] = Counter({("first",): 0, ("again",): 0})
        self.taken: Counter[tuple[str, str]] = Counter()
        self.in_hand = 0
        self.queue_wait = Durations(QUEUE_BOUNDS_S)
        self.durations = DurationsBy()
        self.stages = DurationsBy()

    @contextmanager
    def delivery(self, delivery: Delivery, job: Job, now: float) -> Iterator[Callable[[Outcome], None]]:
        """Count a delivery from its bytes to its answer; yields what to call with its outcome once that is settled."""
        is_first = delivery.attempt == 1
        self.deliveries["first" if is_first else "again",] += 1
        if is_first:
            self.queue_wait.add(max(0.0, now - delivery.queued_at))
        began_s = time.perf_counter()
        self.in_hand += 1

        def settled(outcome: Outcome) -> None:
            self.outcomes[outcome.verdict.value,] += 1
            self.durations.add((outcome.verdict.value,), time.perf_counter() - began_s)
            error = outcome.status.error
            if error is not None and outcome.verdict in (Verdict.RETRY, Verdict.BURY):
                self.errors[error.code,] += 1

        try:
            yield settled
        finally:
            self.in_hand -= 1


def read_metrics(
    tally: Tally,
    load_seconds: Callable[[], dict[str, float]],
    sampler: Sampler,
    demand: DemandCounter | None = None,
) -> Iterator[Metric]:
    """Yield every family with its present values; runs in a thread beside the loop. `load_seconds`: by model."""
    yield BUILD.by([((version("halfdrop"),), 1)])
    yield JOBS.by(list(tally.outcomes.items()))
    yield ERRORS.by(list(tally.errors.items()))
    yield DELIVERIES.by(list(tally.deliveries.items()))
    yield IN_HAND.of(tally.in_hand)
    yield TAKEN.by(list(tally.taken.items()))
    yield QUEUE_WAIT.of(tally.queue_wait)
    yield DURATION.by(tally.durations.items())
    yield STAGES.by(tally.stages.items())
    yield DEMAND_TOLD.of(demand.sent if demand else 0)
    yield DEMAND_LOST.of(demand.lost if demand else 0)
    yield MODEL_LOAD.by(((model,), seconds) for model, seconds in load_seconds().items())
    engine, pool = sampler.engine.counters, sampler.pool
    yield ROUNDS.of(engine.rounds)
    yield STEPS.of(engine.steps)
    yield BUSY.of(engine.busy_s)
    yield OUT_OF_MEMORY.of(engine.out_of_memory)
    yield MODEL_LOADS.of(pool.counters.loads)
    yield MODEL_EVICTIONS.of(pool.counters.evictions)
    yield MODEL_BYTES.of(pool.held_bytes)
