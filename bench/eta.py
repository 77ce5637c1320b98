"""How far off the predicted start of an order is, under the recorded Stable Diffusion requests.

`python bench/eta.py TRACES_FOLDER`: genai_sd_requests.csv.gz (cluster-trace-v2026-GenAI, please cite GenTD26, SoCC'25)
on a virtual clock. Each request is an order of its recorded group (the tenant) that occupies a slot for its recorded
seconds. Four slots at four times the recorded rate: the load of the recording, its days and bursts as they were, for a
pool of some size. What an order asks is known to the pool as `contracts.work` counts it (images x steps), its seconds
only once it has ended. The pool takes jobs by start-time fair queueing, as hubs do; each order is predicted once, when
it is accepted, by the very estimator and calibration of the edge, from the same members that a worker tells: its pace
by its own meter, newcomers as it counts them, and how long running jobs still take as their steps tell it (the steps of
a recorded request are taken to be equally long, which the recording does not say; --no-rests leaves them out).

`eta_median_error` is the median of |predicted wait - real wait| / real wait over all orders that found no free slot,
however short their wait; `eta_median_error_all` counts those that start at once, as predicted, with an error of 0. The
calibration learns from the past of the same run only. `known_seconds_error`, and `_all`, is what is left if the real
seconds of every waiting and running job were known and the pool were simulated from there on: what nobody can know is
who comes later and goes ahead.
"""

import argparse
import csv
import gzip
import heapq
import statistics
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from measuring import percentile, report

from halfdrop.contracts.jobs import JobClass
from halfdrop.contracts.pools import DEFAULT_WEIGHTS, Lane
from halfdrop.contracts.work import UNITS_PER_STEP, work_of
from halfdrop.edge.estimating import Calibration, Place, PoolLoad, expect_wait
from halfdrop.hub.lanes import Newcomers
from halfdrop.hub.leaving import time_left_s
from halfdrop.hub.pool_state import PaceMeter

REQUESTS = "genai_sd_requests.csv.gz"
SLOTS, SPEED = 4, 4.0
IMAGE_PX = 512
"""The recording does not say sizes; this is what its models were made for."""

GOAL = 0.20
SPLITS_S = (10.0, 30.0, 100.0, 300.0, 1000.0)
CLASSES: dict[str, JobClass] = {"INPAINTING": "realtime", "IMG_2_IMG": "realtime"}
"""With --classes: whoever works at a picture waits for it; the rest is standard, of busy groups bulk."""


@dataclass
class Order:
    """A recorded request, and what became of it."""

    at_s: float
    seconds: float
    tenant: str
    job_class: JobClass
    work: float
    place: Place | None = None
    raw_s: float = 0.0
    predicted_s: float | None = None
    started_s: float = 0.0
    known_s: float | None = None
    """The wait by a simulation that knows everybody's seconds, but nobody who comes later."""


@dataclass
class Waiting:
    """A lane of waiting orders, and its place by virtual time."""

    orders: deque[Order] = field(default_factory=deque)
    start: float = 0.0


class Pool:
    """Slots, and lanes taken by virtual time: the least start of the classes, then of its tenants."""

    def __init__(self, slots: int, *, tells_lags: bool = False, tells_rests: bool = False) -> None:
        self.tells_lags, self.tells_rests = tells_lags, tells_rests
        self.slots = slots
        self.running: list[tuple[float, int, Order]] = []
        self.lanes: dict[tuple[JobClass, str], Waiting] = {}
        self.ready: dict[JobClass, dict[str, Waiting]] = {name: {} for name in DEFAULT_WEIGHTS}
        self._class_starts = dict.fromkeys(DEFAULT_WEIGHTS, 0.0)
        self._virtual = 0.0
        self._virtuals = dict.fromkeys(DEFAULT_WEIGHTS, 0.0)
        self._meter, self._newcomers = PaceMeter(), Newcomers()

    def put(self, order: Order) -> None:
        lane = self.lanes.setdefault((order.job_class, order.tenant), Waiting())
        ready = self.ready[order.job_class]
        if not ready:
            self._class_starts[order.job_class] = max(self._class_starts[order.job_class], self._virtual)
        if not lane.orders:
            if all((job.job_class, job.tenant) != (order.job_class, order.tenant) for _, _, job in self.running):
                self._newcomers.add(1, order.work, order.at_s)
            lane.start = max(lane.start, self._virtuals[order.job_class])
            ready[order.tenant] = lane
        lane.orders.append(order)

    def take(self) -> Order | None:
        classes = [name for name, ready in self.ready.items() if ready]
        if not classes or len(self.running) >= self.slots:
            return None
        name = min(classes, key=lambda each: self._class_starts[each])
        self._virtual = max(self._virtual, self._class_starts[name])
        tenant, lane = min(self.ready[name].items(), key=lambda each: each[1].start)
        self._virtuals[name] = max(self._virtuals[name], lane.start)
        order = lane.orders.popleft()
        self._class_starts[name] += order.work / DEFAULT_WEIGHTS[name]
        lane.start += order.work
        if not lane.orders:
            del self.ready[name][tenant]
        return order

    def look_ahead(self, order: Order, now_s: float) -> float:
        """Return how long `order`, which waits, would wait if nobody came after it. Orders of one class only."""
        slots = [end_s for end_s, _, _ in self.running]
        heapq.heapify(slots)
        lanes = [(lane.start, index, 0, lane) for index, lane in enumerate(self.ready[order.job_class].values())]
        heapq.heapify(lanes)
        while True:
            free_s = heapq.heappop(slots)
            start, index, taken, lane = heapq.heappop(lanes)
            job = lane.orders[taken]
            if job is order:
                return free_s - now_s
            heapq.heappush(slots, free_s + job.seconds)
            if taken + 1 < len(lane.orders):
                heapq.heappush(lanes, (start + job.work, index, taken + 1, lane))

    def end(self) -> tuple[float, Order]:
        now_s, _, order = heapq.heappop(self.running)
        self._meter.add(order.work, order.seconds)
        return now_s, order

    def rests_s(self, now_s: float) -> tuple[float, ...]:
        """Return what the running jobs' steps tell, as a worker reckons it."""
        rests = []
        for _, _, order in self.running:
            steps = max(1, round(order.work / UNITS_PER_STEP))
            step_s = order.seconds / steps
            done = int((now_s - order.started_s) / step_s)
            # The first step is no measure for a worker: it waited for the model.
            left_s = time_left_s(steps_left=steps - done, step_s=step_s if done > 1 else None, finishing_left_s=0.0)
            if left_s is None and self._meter.pace is not None:
                left_s = max(0.0, self._meter.pace.seconds(order.work) - (now_s - order.started_s))
            if left_s is not None:
                rests.append(left_s)
        return tuple(rests)

    def load(self, now_s: float) -> PoolLoad:
        """Return what the pool's worker would tell."""
        told: dict[tuple[JobClass, str], tuple[int, float]] = {}
        waiting = [order for ready in self.ready.values() for lane in ready.values() for order in lane.orders]
        for order in (*(order for _, _, order in self.running), *waiting):
            jobs, work = told.get((order.job_class, order.tenant), (0, 0.0))
            told[order.job_class, order.tenant] = jobs + 1, work + order.work
        pace = self._meter.pace
        return PoolLoad(
            slots=self.slots,
            busy=len(self.running),
            pace=pace,
            rests_s=self.rests_s(now_s) if self.tells_rests else (),
            newcomers=self._newcomers.slots(pace, now_s) if pace is not None else 0.0,
            weights=DEFAULT_WEIGHTS,
            lanes=tuple(
                Lane(
                    job_class=name,
                    tenant=tenant,
                    jobs=jobs,
                    work=work,
                    running=jobs - len(self.lanes[name, tenant].orders),
                    lag=max(0.0, self.lanes[name, tenant].start - self._virtuals[name]),
                )
                if self.tells_lags
                else Lane(job_class=name, tenant=tenant, jobs=jobs, work=work)
                for (name, tenant), (jobs, work) in told.items()
            ),
        )


def read_orders(folder: Path, *, speed: float, with_classes: bool) -> list[Order]:
    """Return the recorded requests that took time, in order of arrival."""
    with gzip.open(folder / REQUESTS, "rt") as file:
        rows = [row for row in csv.DictReader(file) if float(row["exec_time_seconds"] or 0) > 0]
    counts: dict[str, int] = {}
    orders = []
    for row in rows:
        tenant = row["groupId"]
        counts[tenant] = counts.get(tenant, 0) + 1
        job_class: JobClass = "standard"
        if with_classes:
            job_class = CLASSES.get(row["predict_type"], "bulk" if counts[tenant] > 50 else "standard")
        images, steps = float(row["num_images_per_prompt"] or 1), int(float(row["num_inference_steps"] or 30))
        orders.append(
            Order(
                at_s=datetime.fromisoformat(row["gmt_create"]).timestamp() / speed,
                seconds=float(row["exec_time_seconds"]),
                tenant=tenant,
                job_class=job_class,
                work=images * work_of(size_px=IMAGE_PX, steps=steps),
            )
        )
    return sorted(orders, key=lambda order: order.at_s)


def replay(orders: list[Order], pool: Pool, *, looks_ahead: bool) -> Iterator[Order]:
    """Run the orders through the pool; yield each that found no free slot, once it has started."""
    calibration = Calibration()
    for order in orders:
        while pool.running and pool.running[0][0] <= order.at_s:
            now_s, _ = pool.end()
            yield from start(pool, now_s, calibration)
        is_full = len(pool.running) >= pool.slots
        if is_full:
            predict(pool, order, calibration)
        pool.put(order)
        if is_full and looks_ahead:
            order.known_s = pool.look_ahead(order, order.at_s)
        yield from start(pool, order.at_s, calibration)
    while pool.running:
        now_s, _ = pool.end()
        yield from start(pool, now_s, calibration)


def predict(pool: Pool, order: Order, calibration: Calibration) -> None:
    lane = pool.ready[order.job_class].get(order.tenant)
    ahead = lane.orders if lane is not None else ()
    order.place = Place(
        job_class=order.job_class,
        tenant=order.tenant,
        jobs_ahead=len(ahead),
        work_ahead=sum(each.work for each in ahead),
    )
    wait = expect_wait(pool.load(order.at_s), order.place)
    if wait is not None:
        order.raw_s = wait.starts_in_s
        order.predicted_s = calibration.correct(order.place, wait.starts_in_s)


def start(pool: Pool, now_s: float, calibration: Calibration) -> Iterator[Order]:
    while order := pool.take():
        order.started_s = now_s
        heapq.heappush(pool.running, (now_s + order.seconds, id(order), order))
        if order.predicted_s is not None and order.place is not None:
            calibration.learn(order.place, order.raw_s, now_s - order.at_s)
            yield order


def summarise_known(orders: list[Order], at_once: int) -> dict[str, object]:
    """Return the error of the simulation that knows all seconds."""
    known = [(order.started_s - order.at_s, order.known_s) for order in orders if order.known_s is not None]
    errors = [abs(said - real) / real for real, said in known if real > 0]
    if not errors:
        return {}
    return {
        "known_seconds_error": round(statistics.median(errors), 3),
        "known_seconds_error_all": round(statistics.median([*errors, *[0.0] * at_once]), 3),
    }


def summarise_errors(orders: list[Order], at_once: int) -> dict[str, object]:
    """Return the median error in all, before calibration, and by how long the orders really waited."""
    waits = [(order.started_s - order.at_s, order.predicted_s or 0.0, order.raw_s) for order in orders]
    waits = [(real, said, raw) for real, said, raw in waits if real > 0]
    figures: dict[str, object] = {
        "eta_median_error": round(statistics.median(abs(said - real) / real for real, said, _ in waits), 3),
        "eta_median_error_all": round(
            statistics.median([*(abs(said - real) / real for real, said, _ in waits), *[0.0] * at_once]), 3
        ),
        "eta_median_error_uncalibrated": round(statistics.median(abs(raw - real) / real for real, _, raw in waits), 3),
        "eta_bias": round(statistics.median(said / real for real, said, _ in waits), 3),
        "wait_s_p50": round(percentile([real for real, _, _ in waits], 0.5), 1),
        "wait_s_p90": round(percentile([real for real, _, _ in waits], 0.9), 1),
        "waited": len(waits),
    }
    edges = (0.0, *SPLITS_S, float("inf"))
    for low, high in pairwise(edges):
        errors = [abs(said - real) / real for real, said, _ in waits if low < real <= high]
        if errors:
            figures[f"error_{low:g}_to_{high:g}_s"] = [round(statistics.median(errors), 3), len(errors)]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", type=Path, help=f"folder that holds {REQUESTS}")
    parser.add_argument("--slots", type=int, default=SLOTS, help=f"jobs at once (default {SLOTS})")
    parser.add_argument("--speed", type=float, default=SPEED, help=f"arrivals so many times faster (default {SPEED:g})")
    parser.add_argument("--classes", action="store_true", help="spread the requests over the three classes")
    parser.add_argument("--no-lags", action="store_true", help="workers tell no lane's lag or running jobs")
    parser.add_argument("--no-rests", action="store_true", help="workers do not tell how long running jobs still take")
    options = parser.parse_args()
    orders = read_orders(options.traces, speed=options.speed, with_classes=options.classes)
    pool = Pool(options.slots, tells_lags=not options.no_lags, tells_rests=not options.no_rests)
    waited = list(replay(orders, pool, looks_ahead=not options.classes))
    at_once = len(orders) - len(waited)
    settings = {
        "slots": options.slots,
        "speed": options.speed,
        "classes": options.classes,
        "lags": not options.no_lags,
        "rests": not options.no_rests,
        "orders": len(orders),
    }
    figures = {**summarise_errors(waited, at_once), **summarise_known(waited, at_once)}
    report("eta", {**figures, "at_once": at_once, **settings, "goal": GOAL})


if __name__ == "__main__":
    main()
