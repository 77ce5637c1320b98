"""HTTP: what people change or try: events, replays, policies; and what the month costs."""

import re
import time
from typing import Annotated, Any

import msgspec
from litestar import delete, get, post, put
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from halfdrop.contracts.demand_events import DEFAULT_KIND, DemandEvent
from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.service.dependencies import ThePlanner, ThePolicies, TheReplays
from halfdrop.forecaster.service.hindsight import make_question
from halfdrop.forecaster.service.learning import LearntView, view_learnt
from halfdrop.forecaster.service.policies import PolicyView, Wishes, replay_terms
from halfdrop.forecaster.service.replays import Run, check_days
from halfdrop.forecaster.service.routes import read_choice
from halfdrop.forecaster.service.spending import SpendView, view_spend
from halfdrop.forecaster.service.views import pools_of


class EventAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event to announce. Times are Unix seconds; without an id it is given one, without an uplift the learnt one."""

    name: str
    kind: str = DEFAULT_KIND
    start: float
    end: float
    uplift: float | None = None
    region: str | None = None
    model: str | None = None
    ramp_s: float = 0.0
    note: str = ""
    id: str = ""


class WhatIfAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A replay to make: a pool's last days on its present terms and on others."""

    region: str
    pool: str
    days: Annotated[float, msgspec.Meta(ge=0.25, le=28)] = 7.0
    wishes: Wishes = Wishes()


class PolicyAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shall be otherwise from now on, and why."""

    wishes: Wishes
    why: Annotated[str, msgspec.Meta(max_length=200)] = ""


@get("/v1/events")
async def list_events(planner: ThePlanner) -> list[DemandEvent]:
    """The calendar, by the events' start."""
    return await planner.calendar.list()


@get("/v1/events/learnt")
async def get_learnt(
    planner: ThePlanner, *, kind: Annotated[str, QueryParameter(max_length=64)] = DEFAULT_KIND
) -> LearntView:
    """What past events of a kind did to demand, by the minutes that are kept; and what that rests on."""
    return await view_learnt(planner, kind)


@post("/v1/events")
async def create_event(planner: ThePlanner, data: JSONBody[EventAsked]) -> DemandEvent:
    """Announce an event; forecasts and plans follow it at once."""
    uplift, note = data.uplift, data.note
    if uplift is None:
        learnt = (await view_learnt(planner, data.kind)).learnt
        if learnt is None:
            raise InvalidInput("uplift", got="nothing", allowed=f"0.01 to 1000: no past {data.kind!r} to learn it from")
        uplift, note = round(learnt.uplift, 3), note or f"uplift learnt from {learnt.events} past of its kind"
    event = DemandEvent(
        id=data.id or make_id(data.name),
        name=data.name,
        kind=data.kind,
        start=data.start,
        end=data.end,
        region=data.region or None,
        model=data.model or None,
        uplift=uplift,
        ramp_s=data.ramp_s,
        note=note,
    )
    await planner.calendar.put(event)
    await planner.read_calendar()
    return event


@delete("/v1/events/{event_id:str}")
async def delete_event(planner: ThePlanner, event_id: FromPath[str]) -> None:
    """Take an event out of the calendar."""
    await planner.calendar.delete(event_id)
    await planner.read_calendar()


@get("/v1/spend")
async def get_spend(planner: ThePlanner, *, region: FromQuery[str] = "") -> list[SpendView]:
    """What each pool has cost this month, and what the month will come to."""
    return [view_spend(planner, pool) for pool in pools_of(planner, read_choice(region, "", ""))]


@post("/v1/what-if", status_code=202)
async def create_what_if(planner: ThePlanner, replays: TheReplays, data: JSONBody[WhatIfAsked]) -> Run:
    """Replay a pool's last days on other terms; ask for the answer under its id."""
    check_days(data.days)
    pool = planner.pool(data.region, data.pool)
    question = make_question(planner, pool, window_minutes=round(data.days * 1440))
    if question.window_minutes < 60:
        raise InvalidInput("days", got=f"{question.window_minutes} min of history", allowed="an hour or more")
    changed = data.wishes.on(pool.terms)
    # Measured boots stay measured, unless others are wished for.
    wishes_boots = data.wishes.boot_min_s is not None or data.wishes.boot_max_s is not None
    measured = pool.boot_p95_s if pool.are_boots_measured and not wishes_boots else None
    question = msgspec.structs.replace(question, scenario=replay_terms(changed, boot_p95_s=measured))
    about = {name: value for name, value in msgspec.to_builtins(data.wishes).items() if value is not None}
    return replays.ask(pool.terms.key, question, about=about)


@get("/v1/what-if/{run_id:str}")
async def get_what_if(replays: TheReplays, run_id: FromPath[str]) -> Run:
    """A replay: how far it is, and when it is done, its answer."""
    return replays.find(run_id)


@delete("/v1/what-if/{run_id:str}", status_code=200)
async def cancel_what_if(replays: TheReplays, run_id: FromPath[str]) -> Run:
    """Call a replay off."""
    return replays.cancel(run_id)


@get("/v1/policies/{region:str}/{pool:str}")
async def get_policy(
    planner: ThePlanner, policies: ThePolicies, region: FromPath[str], pool: FromPath[str]
) -> PolicyView:
    """A pool's terms, and as a CapacityPolicy."""
    return policies.view(planner.pool(region, pool))


@post("/v1/policies/{region:str}/{pool:str}/draft", status_code=200)
async def draft_policy(
    planner: ThePlanner, policies: ThePolicies, region: FromPath[str], pool: FromPath[str], data: JSONBody[PolicyAsked]
) -> PolicyView:
    """What a policy with these wishes would be; nothing changes."""
    found = planner.pool(region, pool)
    return policies.view(found, terms=data.wishes.on(found.terms), why=data.why)


@put("/v1/policies/{region:str}/{pool:str}")
async def put_policy(
    planner: ThePlanner, policies: ThePolicies, region: FromPath[str], pool: FromPath[str], data: JSONBody[PolicyAsked]
) -> PolicyView:
    """Plan by these wishes from now on, and store the policy where a store is configured."""
    found = planner.pool(region, pool)
    return await policies.apply(found, data.wishes.on(found.terms), why=data.why)


def make_id(name: str) -> str:
    """Return an id that reads like the name and is not another event's."""
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or "event"
    return f"{words}-{time.time_ns() // 1_000_000 % 10**8:08d}"


HANDLERS: list[Any] = [
    list_events,
    get_learnt,
    create_event,
    delete_event,
    get_spend,
    create_what_if,
    get_what_if,
    cancel_what_if,
    get_policy,
    draft_policy,
    put_policy,
]
