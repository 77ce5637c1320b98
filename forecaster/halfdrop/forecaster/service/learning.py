"""What past events of a kind did, by the minutes that the planner keeps: for whoever announces the next one."""

import math

from msgspec import Struct

from halfdrop.contracts.demand_events import DemandEvent
from halfdrop.forecaster.event_uplift import LearntUplift, learn_uplift
from halfdrop.forecaster.service.planner import Planner
from halfdrop.forecaster.service.series import Choice
from halfdrop.forecaster.workload import MINUTE_S, FloatArray


class LearntView(Struct, frozen=True, kw_only=True):
    """What events of a kind do to demand, if any is past whose demand is known."""

    kind: str
    learnt: LearntUplift | None
    words: str


async def view_learnt(planner: Planner, kind: str) -> LearntView:
    """Return what past events of `kind` did. Raises Unavailable without its calendar."""

    async def minutes_of(event: DemandEvent, start: float, end: float) -> FloatArray:
        choice = Choice(
            regions=(event.region,) if event.region is not None else (),
            classes=event.job_classes,
            models=(event.model,) if event.model is not None else (),
        )
        return planner.table.gpus(choice, math.floor(start / MINUTE_S), math.floor(end / MINUTE_S))

    events = await planner.calendar.list()
    learnt = await learn_uplift(kind, events, minutes_of, now=planner.table.end * float(MINUTE_S))
    if learnt is None:
        return LearntView(kind=kind, learnt=None, words=f"No past {kind} to learn from: say how many times the usual.")
    count = "one past" if learnt.events == 1 else f"{learnt.events} past"
    words = (
        f"× {learnt.uplift:.3g} if left empty: the median of {count} {kind} (× {learnt.low:.3g} to {learnt.high:.3g})."
    )
    return LearntView(kind=kind, learnt=learnt, words=words)
