"""Which event goes out next: a pure core. Time is handed in, nothing is sent from here.

Each order is a lane: only its first event may be under way. Each endpoint has a window of attempts that begins at one,
grows with each success and falls back to one at a failure, and a breaker. So what is slow or unknown holds one slot and
no more, and most slots are kept for endpoints that answered last time: who hangs harms nobody else.
"""

import heapq
import math
from collections import Counter, deque
from collections.abc import Callable

from halfdrop.contracts.jobs import WebhookEvent
from halfdrop.edge.webhooks.addresses import Endpoint
from halfdrop.edge.webhooks.events import RANKS
from halfdrop.edge.webhooks.timing import Breaker

IN_FLIGHT_MAX = 128
"""Attempts at once. Each is a socket and a few KB."""

UNPROVEN_MAX = 96
"""Of those, to endpoints that did not answer as they should when last tried, or were never tried."""

TENANT_IN_FLIGHT_MAX, TENANT_UNPROVEN_MAX = 48, 32
"""The same for one tenant."""

WINDOW_MAX = 8
"""Attempts at once to one endpoint that is well."""

QUIET_S = 0.5
"""Between two logs or output events of an order, as Replicate has it."""

QUIET_ORDERS_MAX = 10_000
ENDPOINTS_MAX = 10_000
"""Endpoints remembered; beyond it, those that nothing waits for are forgotten."""


class Entry:
    """One event that waits. Mutable: its attempts and due time change."""

    __slots__ = ("at", "attempts", "due_at", "endpoint", "id", "is_under_way", "kind", "order_id", "sequence", "url")

    def __init__(
        self,
        *,
        id: str,  # noqa: A002  the webhook-id
        kind: WebhookEvent,
        order_id: str,
        endpoint: Endpoint,
        url: str,
        at: float,
        sequence: int,
        attempts: int = 0,
        due_at: float = 0.0,
    ) -> None:
        self.id = id
        self.kind: WebhookEvent = kind
        self.order_id = order_id
        self.endpoint = endpoint
        self.url = url
        self.at = at
        self.sequence = sequence
        self.attempts = attempts
        self.due_at = due_at
        self.is_under_way = False

    @property
    def place(self) -> tuple[int, float, str]:
        """Sorts the events of one order into the order in which they happened."""
        return RANKS[self.kind], self.at, self.id


class EndpointState:
    """What is known of one endpoint since this edge started, and what waits for it."""

    def __init__(self, endpoint: Endpoint, clock: Callable[[], float]) -> None:
        self.endpoint = endpoint
        self.breaker = Breaker(clock)
        self.heads: list[tuple[float, float, str]] = []
        """Heap of (due, age, order) of the lanes whose first event goes here; what no longer holds is skipped."""

        self.waiting = 0
        self.in_flight = 0
        self.window = 1
        self.is_proven = False
        self.look_at = math.inf
        """When it is looked at next; an earlier or later look in the heap no longer holds."""

        self.is_parked = False
        self.held_until = 0.0
        self.last_success_at = 0.0
        self.last_failure_at = 0.0
        self.last_failure = ""

    @property
    def is_idle(self) -> bool:
        return not self.waiting and not self.in_flight


class Schedule:
    """All events that wait."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lanes: dict[str, deque[Entry]] = {}
        self._quiet_until: dict[str, float] = {}
        self._entries: dict[str, Entry] = {}
        self.endpoints: dict[Endpoint, EndpointState] = {}
        self._ready: list[tuple[float, int, Endpoint]] = []
        """Heap of (when to look, turn, endpoint). The turn makes those that are ready take turns."""

        self._turn = 0
        self._parked: deque[EndpointState] = deque()
        """Ready but for want of a slot; looked at again when an attempt ends."""

        self.in_flight = 0
        self._unproven = 0
        self._by_tenant: Counter[str] = Counter()
        self._unproven_by_tenant: Counter[str] = Counter()
        self._waiting_by_tenant: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    def knows(self, webhook_id: str) -> bool:
        """True if the event waits or is under way."""
        return webhook_id in self._entries

    def waiting(self, tenant: str) -> int:
        """Return how many events of a tenant wait."""
        return self._waiting_by_tenant[tenant]

    def oldest_at(self) -> float | None:
        """Return when the oldest event that waits happened; another thread may ask."""
        return min((entry.at for entry in list(self._entries.values())), default=None)

    def add(self, entry: Entry) -> list[Entry]:
        """Take an event in; return those that it makes superfluous, which are no longer here.

        Newer logs or output supersede older; `completed` all of them, and a `start` that has failed already: it would
        wait for hours behind something that no longer matters. What is under way is left to end.
        """
        lane = self._lanes.setdefault(entry.order_id, deque())
        superseded = [other for other in lane if not other.is_under_way and _supersedes(entry, other)]
        for other in superseded:
            lane.remove(other)
            self._forget(other)
        lane.append(entry)
        self._lanes[entry.order_id] = lane  # an emptied one was forgotten
        if len(lane) > 1 and entry.place < lane[-2].place:
            self._lanes[entry.order_id] = lane = deque(sorted(lane, key=lambda one: (not one.is_under_way, one.place)))
        self._entries[entry.id] = entry
        self._waiting_by_tenant[entry.endpoint.tenant] += 1
        self._state(entry.endpoint).waiting += 1
        self._offer(lane)
        return superseded

    def take(self) -> Entry | None:
        """Return an event that goes out now, and count it as under way; None if none may."""
        now = self._clock()
        while self._ready and self._ready[0][0] <= now:
            at, _, endpoint = heapq.heappop(self._ready)
            state = self.endpoints.get(endpoint)
            if state is None or at != state.look_at:
                continue
            state.look_at = math.inf
            entry = self._first(state)
            if entry is None or state.in_flight >= state.window:  # looked at again when one of its attempts ends
                continue
            look_at = max(self._due(entry), state.breaker.ready_at, state.held_until)
            if look_at > now:
                self._look(state, look_at)
                continue
            if not self._has_room(state):
                if not state.is_parked:
                    state.is_parked = True
                    self._parked.append(state)
                continue
            heapq.heappop(state.heads)
            self._begin(state, entry)
            self._look(state, now)
            return entry
        return None

    def next_look_at(self) -> float | None:
        """Return when `take` may have something again if nothing else happens."""
        return self._ready[0][0] if self._ready else None

    def hold(self, endpoint: Endpoint, until: float) -> None:
        """Let nothing go to `endpoint` until then, without its having failed."""
        self._state(endpoint).held_until = until

    def finish(self, entry: Entry, *, is_well: bool | None) -> None:
        """An attempt is over and the event done with. is_well: how the endpoint did, None if nobody asked it."""
        self._end(entry, is_well)
        lane = self._lanes[entry.order_id]
        lane.remove(entry)
        if entry.kind in ("logs", "output"):
            self._keep_quiet(entry.order_id)
        self._forget(entry)
        self._offer(lane)

    def postpone(self, entry: Entry, *, due_at: float, is_well: bool | None) -> bool:
        """An attempt is over and the event to be tried again. False if it is superseded meanwhile and done with."""
        lane = self._lanes[entry.order_id]
        if any(_supersedes(later, entry) for later in lane if later is not entry):
            self.finish(entry, is_well=is_well)
            return False
        self._end(entry, is_well)
        entry.due_at = due_at
        self._offer(lane)
        return True

    def _begin(self, state: EndpointState, entry: Entry) -> None:
        entry.is_under_way = True
        state.breaker.begin()
        state.in_flight += 1
        self.in_flight += 1
        tenant = entry.endpoint.tenant
        self._by_tenant[tenant] += 1
        if not state.is_proven:
            self._unproven += 1
            self._unproven_by_tenant[tenant] += 1

    def _end(self, entry: Entry, is_well: bool | None) -> None:
        state, tenant = self._state(entry.endpoint), entry.endpoint.tenant
        entry.is_under_way = False
        state.in_flight -= 1
        self.in_flight -= 1
        self._take_off(self._by_tenant, tenant, 1)
        was_proven = state.is_proven
        if was_proven is False:
            self._unproven -= 1
            self._take_off(self._unproven_by_tenant, tenant, 1)
        if is_well is None:
            state.breaker.give_up()
        elif is_well:
            state.breaker.succeed()
            state.window, state.is_proven, state.last_success_at = (
                min(state.window + 1, WINDOW_MAX),
                True,
                self._clock(),
            )
        else:
            state.breaker.fail()
            state.window, state.is_proven, state.last_failure_at = 1, False, self._clock()
        if was_proven != state.is_proven:  # those still under way change sides with their endpoint
            moved = state.in_flight if was_proven else -state.in_flight
            self._unproven += moved
            self._take_off(self._unproven_by_tenant, tenant, -moved)
        self._look(state, self._clock())
        while self._parked:
            parked = self._parked.popleft()
            parked.is_parked = False
            self._look(parked, self._clock())

    def _has_room(self, state: EndpointState) -> bool:
        tenant = state.endpoint.tenant
        if self.in_flight >= IN_FLIGHT_MAX or self._by_tenant[tenant] >= TENANT_IN_FLIGHT_MAX:
            return False
        return state.is_proven or (
            self._unproven < UNPROVEN_MAX and self._unproven_by_tenant[tenant] < TENANT_UNPROVEN_MAX
        )

    def _first(self, state: EndpointState) -> Entry | None:
        """Return the event that is the next one for this endpoint; its place is the first of `heads` then."""
        while state.heads:
            due, _, order_id = state.heads[0]
            lane = self._lanes.get(order_id)
            head = lane[0] if lane else None
            # Whenever the first of a lane or its due time changes, it is offered anew: what differs is out of date.
            if head and not head.is_under_way and head.endpoint == state.endpoint and self._due(head) <= due:
                return head
            heapq.heappop(state.heads)
        return None

    def _offer(self, lane: deque[Entry]) -> None:
        """Have the first event of a lane looked at when it is due."""
        if not lane or lane[0].is_under_way:
            return
        entry = lane[0]
        due = self._due(entry)
        state = self._state(entry.endpoint)
        heapq.heappush(state.heads, (due, entry.at, entry.order_id))
        self._look(state, due)

    def _look(self, state: EndpointState, at: float) -> None:
        if at < state.look_at:
            state.look_at = at
            self._turn += 1
            heapq.heappush(self._ready, (at, self._turn, state.endpoint))

    def _keep_quiet(self, order_id: str) -> None:
        now = self._clock()
        if len(self._quiet_until) > QUIET_ORDERS_MAX:
            self._quiet_until = {name: until for name, until in self._quiet_until.items() if until > now}
        self._quiet_until[order_id] = now + QUIET_S

    def _due(self, entry: Entry) -> float:
        if entry.kind in ("logs", "output"):
            return max(entry.due_at, self._quiet_until.get(entry.order_id, 0.0))
        return entry.due_at

    def _forget(self, entry: Entry) -> None:
        self._entries.pop(entry.id, None)
        self._take_off(self._waiting_by_tenant, entry.endpoint.tenant, 1)
        state = self._state(entry.endpoint)
        state.waiting -= 1
        if not self._lanes.get(entry.order_id):
            self._lanes.pop(entry.order_id, None)

    def _state(self, endpoint: Endpoint) -> EndpointState:
        state = self.endpoints.get(endpoint)
        if state is None:
            if len(self.endpoints) >= ENDPOINTS_MAX:
                for other, known in list(self.endpoints.items()):
                    if known.is_idle:
                        del self.endpoints[other]
            state = self.endpoints[endpoint] = EndpointState(endpoint, self._clock)
        return state

    @staticmethod
    def _take_off(counter: Counter[str], name: str, count: int) -> None:
        counter[name] -= count
        if not counter[name]:
            del counter[name]


def _supersedes(later: Entry, earlier: Entry) -> bool:
    if later.place <= earlier.place:
        return False
    if earlier.kind in ("logs", "output"):
        return later.kind in ("logs", "output", "completed")
    return later.kind == "completed" and earlier.kind == "start" and earlier.attempts > 0
