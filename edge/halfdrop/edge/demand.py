"""What this edge tells of demand: every order that it accepts, as work for a GPU, and that there was none.

An order counts where its edge is at home, wherever it is served: people's demand comes from there, and that some of it
is spilled to another region only says that GPUs were missing. Reports go into the edge's own DEMAND_OUT first, so that
nothing is lost while the hub is away, and from there to the hub's DEMAND, in order.
"""

import asyncio
import time
from collections.abc import Callable, Iterable

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, Header
from nats.js.errors import NotFoundError

from halfdrop.contracts.demand import FINISH, DemandReport, SeriesName, series_of
from halfdrop.contracts.errors import Unavailable
from halfdrop.contracts.jobs import Job, accepted_work
from halfdrop.contracts.pools import Pace
from halfdrop.contracts.subjects import DEMAND_OUT_STREAM, DEMAND_STREAM, at_hub, demand_report, outgoing_demand
from halfdrop.edge.orders import translated
from halfdrop.edge.pools import Pools, pace_of
from halfdrop.runtime.broker import Broker
from halfdrop.runtime.demand import DemandCounter
from halfdrop.runtime.pulling import open_pull
from halfdrop.runtime.streams import ensure_demand_stream

log = structlog.get_logger()

GPU_PACE = Pace(unit_s=1 / 8)
"""How fast a GPU is taken to be until a worker tells what it measured: two cores make a master of 4096 px, 16 units, in
about two seconds."""

PACE_KEPT_S = 1.0
"""Workers tell their pace once a second; it need not be added up for each order."""

CONSUMER = "demand-forwarder"
WINDOW = 64
ACK_WAIT_S = 86_400.0
"""What is in hand is never asked for again while this edge runs; a new run makes the consumer anew."""

RETRY_MIN_S, RETRY_MAX_S = 0.5, 10.0
PUBLISH_TIMEOUT_S = 3.0
OUTAGE = (NatsError, TimeoutError, OSError)


class EdgeDemand:
    """Counts orders, and sends what was counted."""

    def __init__(
        self,
        broker: Broker,
        pools: Pools,
        *,
        edge: str,
        home: str,
        model: Callable[[], str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._broker = broker
        self._pools = pools
        self._home = home
        self._model = model
        self._pace = GPU_PACE
        self._pace_at_s = 0.0
        self.counter = DemandCounter(
            f"edge-{edge}", blank={"requests": 0, "gpu_s_offered": 0.0}, usual=self._usual, clock=clock
        )

    def note(self, job: Job) -> None:
        """Count an order that was accepted."""
        series = series_of(job, self._home)
        self.counter.add(series, requests=1, gpu_s_offered=self._gpu_pace().seconds(accepted_work(job)))

    async def run(self) -> None:
        """Tell of each minute until cancelled, and then of the last one."""
        await self.counter.run_until_cancelled(self._store)

    async def _store(self, report: DemandReport, data: bytes) -> None:
        with translated("take what is told of demand"):
            headers = {Header.MSG_ID.value: report.id}
            await self._broker.js.publish(
                outgoing_demand(report.member), data, stream=DEMAND_OUT_STREAM, headers=headers
            )

    def _usual(self) -> Iterable[SeriesName]:
        model = self._model()[:64]
        return [
            SeriesName(self._home, "realtime", model, FINISH),
            SeriesName(self._home, "standard", model, FINISH),
            SeriesName(self._home, "bulk", model, FINISH),
        ]

    def _gpu_pace(self) -> Pace:
        """Return how fast a GPU of the home region is, with all its slots; if none tells it now, as was told last."""
        now_s = time.monotonic()
        if now_s - self._pace_at_s > PACE_KEPT_S:
            states = [heard.state for heard in self._pools.workers(self._home)]
            paces = [(pace, max(1, state.slots)) for state in states if (pace := pace_of(state)) is not None]
            if paces:
                self._pace = Pace(
                    job_s=sum(pace.job_s / slots for pace, slots in paces) / len(paces),
                    unit_s=sum(pace.unit_s / slots for pace, slots in paces) / len(paces),
                )
            self._pace_at_s = now_s
        return self._pace


async def forward_demand(broker: Broker, home: JetStreamContext, region: str) -> None:
    """Bring what waits in DEMAND_OUT to the home region's DEMAND, in order, for ever; outages are waited out."""
    while True:
        try:
            await _make_consumer(broker.js)
            async with open_pull(broker, domain=broker.domain, stream=DEMAND_OUT_STREAM, consumer=CONSUMER) as pull:
                while True:
                    for message in await pull.fetch(WINDOW):
                        await _forward_stubbornly(home, region, message)
        except (*OUTAGE, Unavailable) as error:
            log.warning("demand_out_unreachable", error=repr(error))
        await asyncio.sleep(RETRY_MIN_S)


async def _forward_stubbornly(home: JetStreamContext, region: str, message: Msg) -> None:
    """Return once the hub has the message and the edge's own server need no longer keep it."""
    retry_s = RETRY_MIN_S
    member = message.subject.rpartition(".")[2]
    headers = {Header.MSG_ID.value: (message.headers or {}).get(Header.MSG_ID.value, "")}
    while True:
        try:
            subject = at_hub(region, demand_report(region, member))
            await home.publish(subject, message.data, timeout=PUBLISH_TIMEOUT_S, stream=DEMAND_STREAM, headers=headers)
            break
        except OUTAGE as error:
            log.debug("demand_not_forwarded", error=repr(error))
        await asyncio.sleep(retry_s)
        retry_s = min(2 * retry_s, RETRY_MAX_S)
        try:
            await ensure_demand_stream(home)
        except OUTAGE as error:
            log.debug("demand_stream_away", error=repr(error))
    await message.ack()


async def _make_consumer(js: JetStreamContext) -> None:
    """Make the consumer anew: what an earlier run had in hand comes at once, and everything in its order."""
    try:
        await js.delete_consumer(DEMAND_OUT_STREAM, CONSUMER)
    except NotFoundError:
        log.debug("demand_consumer_new")
    config = ConsumerConfig(
        name=CONSUMER,
        durable_name=CONSUMER,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_S,
        max_ack_pending=WINDOW,
    )
    await js.add_consumer(DEMAND_OUT_STREAM, config)
