"""The forecasters of all series, of their sums, and of the pools: which there are, and how they are kept up to date.

A node is a choice of series with a forecaster of its own: each series, each sum over one or two of region, class and
model that is not the same as another, each region, each pool, and everything. A sum has its own forecast, because
quantiles of a sum are not the sum of quantiles.

A new node learns from the past in pieces of a day, pools first; those that have learnt get each new minute before that
goes on. What a node has learnt lies in its shard alone and is learnt again if that dies.
"""

import asyncio
from collections.abc import Callable, Iterator
from itertools import product

import structlog

from halfdrop.contracts.errors import Unavailable
from halfdrop.forecaster.features import DAY_MINUTES
from halfdrop.forecaster.replay import SHADOW_MINUTES, SHADOW_WARM_MINUTES
from halfdrop.forecaster.service.series import Choice, DemandTable, SeriesKey
from halfdrop.forecaster.service.shards import NodeForecast, NodeMinutes, PoolAsk, Shard

log = structlog.get_logger()

SERIES_HORIZONS = (1, 9, 60)
SUM_HORIZONS = (1, 9, 30, 60, 240)
POOL_HORIZONS = (1, 3, 6, 9, 15, 30, 60, 120, 240)
"""Each horizon costs the same: single series, of which there may be thousands, have few."""

JUDGED_HORIZON = 9
"""Where the verdict is made: a boot takes about so long."""

SHORT_LEARN_DAYS = 8
"""Of what is no pool: as long as calibration remembers."""

BEHIND_MINUTES_MAX = 60
"""A node further behind than this is learning; one that is less gets its minutes at once."""

BATCH_MAX = 256
RETRY_S = 1.0

TakeForecast = Callable[["Node", NodeMinutes, NodeForecast], None]
AsksOf = Callable[["Node"], tuple[PoolAsk, ...]]


class Node:
    """A choice of series and how far its forecaster has come."""

    def __init__(self, number: int, choice: Choice, *, is_pool: bool, is_sum: bool, begin: int) -> None:
        self.number = number
        self.choice = choice
        self.is_pool = is_pool
        self.horizons = POOL_HORIZONS if is_pool else SUM_HORIZONS if is_sum else SERIES_HORIZONS
        self.priority = 0 if is_pool else 1 if is_sum else 2
        self.begin = self.next_minute = begin
        """From where it learns, and the first minute that it has not seen."""

        self.is_new = True
        self.is_asked = False
        """Whether prices are asked for, though no minute may be new: a policy is another."""

        self.newest: NodeForecast | None = None

    @property
    def is_asked_anew(self) -> bool:
        return self.is_asked and not self.is_new

    def forget(self) -> None:
        """Begin again: what was learnt is gone."""
        self.next_minute, self.is_new, self.newest = self.begin, True, None

    def learnt_share(self, end: int) -> float:
        """Return how much of the past it has seen, 0 to 1."""
        return 1.0 if end <= self.begin else (self.next_minute - self.begin) / (end - self.begin)


class Forecasting:
    """All nodes. Belongs to the loop; the arithmetic is in the shards."""

    def __init__(
        self, table: DemandTable, shards: list[Shard], *, learn_days: int, take: TakeForecast, asks_of: AsksOf
    ) -> None:
        self.table, self.shards = table, shards
        self._learn_minutes = learn_days * DAY_MINUTES
        self._take, self._asks_of = take, asks_of
        self.nodes: list[Node] = []
        self._by_choice: dict[Choice, Node] = {}
        self._by_members: dict[frozenset[SeriesKey], Node] = {}
        self._due = [asyncio.Event() for _ in shards]
        self.failures = 0

    def find(self, choice: Choice) -> Node | None:
        """Return the node that forecasts exactly these series, if one does."""
        found = self._by_choice.get(choice)
        return found or self._by_members.get(frozenset(self.table.keys(choice)))

    def learnt_share(self) -> float:
        """Return how much of what there is to learn has been, over all nodes."""
        if not self.nodes:
            return 1.0
        return sum(node.learnt_share(self.table.end) for node in self.nodes) / len(self.nodes)

    def update(self, pools: list[Choice], *, has_new_series: bool) -> None:
        """Tell of new minutes, and where series are new, make the nodes that are missing."""
        if has_new_series:
            self._name_nodes(pools)
        for event in self._due:
            event.set()

    def ask_prices(self, node: Node) -> None:
        """Have the prices of a node's pools found anew, by the policies that they have now."""
        node.is_asked = True
        for event in self._due:
            event.set()

    async def run(self) -> None:
        """Keep all nodes up to date until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for place in range(len(self.shards)):
                tasks.create_task(self._work(place))

    def _name_nodes(self, pools: list[Choice]) -> None:
        """Find which choices are the same series, and give each set of series one node.

        A node whose sum has a new part goes on with what it has learnt: the part was not there before.
        """
        members: dict[Choice, set[SeriesKey]] = {choice: set(self.table.keys(choice)) for choice in pools}
        for choice, key in _sums(self.table):
            members.setdefault(choice, set()).add(key)
        known = {node.choice: node for node in self.nodes}
        self._by_members.clear()
        for choice, keys in members.items():
            if not keys:
                continue
            node = self._by_members.get(frozenset(keys)) or known.get(choice)
            if node is None:
                node = self._make(choice, keys, is_pool=choice in pools)
                self.nodes.append(node)
            self._by_members.setdefault(frozenset(keys), node)
            self._by_choice[choice] = node

    def _make(self, choice: Choice, keys: set[SeriesKey], *, is_pool: bool) -> Node:
        is_sum = len(keys) > 1
        minutes = self._learn_minutes if is_pool else min(self._learn_minutes, SHORT_LEARN_DAYS * DAY_MINUTES)
        first = min(self.table.series[key].first for key in keys)
        begin = max(first, self.table.end - minutes)
        return Node(len(self.nodes), choice, is_pool=is_pool, is_sum=is_sum, begin=begin)

    async def _work(self, place: int) -> None:
        shard, due = self.shards[place], self._due[place]
        while True:
            batch = self._next_batch(place)
            if not batch:
                due.clear()
                if not self._next_batch(place):
                    await due.wait()
                continue
            for node, _ in batch:
                node.is_asked = False
            try:
                found = await shard.extend([minutes for _, minutes in batch])
            except Unavailable as error:
                self.failures += 1
                log.warning("shard_failed", shard=shard.name, error=str(error))
                for node in self._share_of(place):
                    node.forget()
                await asyncio.sleep(RETRY_S)
                continue
            for (node, minutes), forecast in zip(batch, found, strict=True):
                node.next_minute, node.is_new, node.newest = forecast.end_minute, False, forecast
                self._take(node, minutes, forecast)

    def _next_batch(self, place: int) -> list[tuple[Node, NodeMinutes]]:
        """Return new minutes for those that have learnt; if there are none, a day for one that has not."""
        end = self.table.end
        behind = [node for node in self._share_of(place) if node.next_minute < end or node.is_asked_anew]
        near = [node for node in behind if end - node.next_minute <= BEHIND_MINUTES_MAX and not node.is_new]
        if near:
            near.sort(key=lambda node: node.priority)
            return [(node, self._minutes(node, end)) for node in near[:BATCH_MAX]]
        if not behind:
            return []
        node = min(behind, key=lambda node: (node.priority, node.number))
        return [(node, self._minutes(node, min(end, node.next_minute + DAY_MINUTES)))]

    def _minutes(self, node: Node, end: int) -> NodeMinutes:
        return NodeMinutes(
            node=node.number,
            start_minute=node.next_minute,
            gpus=self.table.gpus(node.choice, node.next_minute, end),
            horizons=node.horizons,
            judged_horizon=JUDGED_HORIZON,
            is_first=node.is_new,
            is_recorded=node.is_pool,
            pools=self._asks_of(node) if node.is_pool else (),
            shadows_from=max(node.begin + SHADOW_WARM_MINUTES, self.table.end - SHADOW_MINUTES),
        )

    def _share_of(self, place: int) -> Iterator[Node]:
        count = len(self.shards)
        return (node for node in self.nodes if node.number % count == place)


def _sums(table: DemandTable) -> Iterator[tuple[Choice, SeriesKey]]:
    """Yield each choice of one or any region, class and model with each of its series, the widest choices first."""
    for fixed in sorted(product((False, True), repeat=3), key=sum):
        for key in table.series:
            region, job_class, model = (
                (name,) if is_fixed else ()
                for name, is_fixed in zip((key.region, key.job_class, key.model), fixed, strict=True)
            )
            yield Choice(regions=region, classes=job_class, models=model), key
