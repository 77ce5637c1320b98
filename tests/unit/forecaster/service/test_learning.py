"""The uplift of the next event, from the minutes that the planner keeps."""

import numpy as np
import pandas as pd
import pytest

from halfdrop.contracts.demand_events import DemandEvent
from halfdrop.forecaster.service.calendars import OwnCalendar
from halfdrop.forecaster.service.learning import view_learnt
from halfdrop.forecaster.service.planner import Planner
from halfdrop.forecaster.service.sources import FileSource

WEEK_S = 7 * 86_400
BEGIN = 1_790_000_000 // WEEK_S * WEEK_S
WEEKS = 5
DROPS = {1: 3.0, 3: 5.0}
"""Week and what its drop did to the realtime demand of eu."""


@pytest.fixture
async def planner(tmp_path_factory: pytest.TempPathFactory) -> Planner:
    minutes = np.arange(0, WEEKS * WEEK_S, 60)
    frames = []
    for job_class, gpus in (("realtime", 6.0), ("bulk", 2.0)):
        work = np.full(len(minutes), gpus)
        for week, factor in DROPS.items():
            during = (minutes >= week * WEEK_S + 36_000) & (minutes < week * WEEK_S + 43_200)
            work[during] *= factor if job_class == "realtime" else 1.0
        names = {"region": "eu", "class": job_class, "model": "house"}
        times = pd.to_datetime(BEGIN + minutes, unit="s")
        frames.append(pd.DataFrame({"minute": times, "gpu_s_offered": work * 60, **names}))
    planner = Planner(FileSource(tmp_path_factory.mktemp("none") / "none.csv"), [], calendar=OwnCalendar())
    planner.table.add(pd.concat(frames), minute_max=10**9)
    for week in DROPS:
        start = float(BEGIN + week * WEEK_S + 36_000)
        event = DemandEvent(
            id=f"drop-{week}", name="drop", kind="drop", start=start, end=start + 7200, uplift=2.0, region="eu",
            job_classes=("realtime",),
        )  # fmt: skip
        await planner.calendar.put(event)
    return planner


async def test_past_events_say_what_the_next_will_do_and_what_that_rests_on(planner: Planner) -> None:
    found = await view_learnt(planner, "drop")
    assert found.learnt is not None
    assert found.learnt.uplift == pytest.approx(4.0)
    assert [round(each.ratio, 6) for each in found.learnt.ratios] == [3.0, 5.0]
    assert found.words == "× 4 if left empty: the median of 2 past drop (× 3 to 5)."


async def test_a_kind_without_a_past_event_is_not_guessed(planner: Planner) -> None:
    found = await view_learnt(planner, "sale")
    assert found.learnt is None
    assert found.words == "No past sale to learn from: say how many times the usual."
