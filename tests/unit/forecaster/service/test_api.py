"""The API over a history file: the whole planner but for its processes and its port."""

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpx
import numpy as np
import pandas as pd
import pytest
import pytest_asyncio

from halfdrop.forecaster.app import make_app
from halfdrop.forecaster.service.planner import Planner
from halfdrop.forecaster.service.policies import Policies
from halfdrop.forecaster.service.replays import Replays
from halfdrop.forecaster.service.shards import Shard
from halfdrop.forecaster.service.sources import FileSource
from halfdrop.forecaster.service.streams import Streams
from halfdrop.runtime.objects import open_objects

MINUTES = 900
END = datetime(2026, 11, 19, 12, tzinfo=UTC).timestamp()

pytestmark = pytest.mark.asyncio(loop_scope="module")


def make_rows() -> pd.DataFrame:
    dice = np.random.default_rng(8)
    times = pd.to_datetime(END + 60 * np.arange(-MINUTES, 0), unit="s")
    frames = []
    for job_class, gpus in (("realtime", 6.0), ("bulk", 2.0)):
        work = np.maximum(gpus + dice.normal(0, 0.5, MINUTES), 0) * 60
        columns = {"region": "eu", "class": job_class, "model": "house", "replicas": 12.0, "cold_starts": 0}
        frame = pd.DataFrame({"minute": times, "gpu_s_offered": work, "requests": np.rint(work / 20), "late": 0.0})
        frames.append(frame.assign(**columns))
    frames[0].loc[100, ["late"]] = 7.0
    frames[0].loc[200, ["cold_starts", "boot_s_sum"]] = [10, 3000.0]
    return pd.concat(frames).drop(index=range(300, 330))  # a gap of half an hour


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Planner:
    path = tmp_path_factory.mktemp("history") / "h.parquet"
    make_rows().to_parquet(path, index=False)
    shard = Shard("test", start=lambda: ThreadPoolExecutor(max_workers=1))
    return Planner(FileSource(path), [shard], learn_days=1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(planner: Planner) -> AsyncIterator[httpx.AsyncClient]:
    replays, policies = Replays(), Policies(planner, open_objects("memory://"))
    app = make_app(planner, Streams(), replays=replays, policies=policies, hosts=("testserver.local",))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:8090") as client:
        work = [asyncio.ensure_future(planner.take_in()), asyncio.ensure_future(planner.forecasting.run())]
        async with asyncio.timeout(60):
            while planner.forecasting.learnt_share() < 1 or not planner.pools:
                await planner.wait_for_news(planner.revision, timeout_s=5)
        yield client
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)


async def test_scopes_say_what_there_is(client: httpx.AsyncClient) -> None:
    found = (await client.get("/v1/scopes")).json()
    assert (found["regions"], found["classes"], found["models"]) == (["eu"], ["bulk", "realtime"], ["house"])
    assert (found["end"], found["now"], found["is_stale"], found["learnt_share"]) == (END, END, False, 1.0)
    assert found["assumed_pools"] == ["eu.all"]


async def test_demand_comes_in_buckets_with_its_gap_and_its_capacity(client: httpx.AsyncClient) -> None:
    query = {"from": END - MINUTES * 60, "to": END, "points": 60}
    found = (await client.get("/v1/demand", params=query)).json()
    assert found["step_s"] == 900
    assert found["gaps"] == 30
    assert found["mean"][20] is None
    assert found["mean"][0] == pytest.approx(8.0, abs=0.5)
    assert found["low"][0] < found["mean"][0] < found["high"][0]
    assert found["capacity"][0] == 12.0
    assert sum(late or 0 for late in found["late"]) == 7
    assert found["planned"][-1] >= 8
    assert found["fan"]["ahead_minutes"] == 9
    part = (await client.get("/v1/demand", params={**query, "class": "bulk"})).json()
    assert part["mean"][0] == pytest.approx(2.0, abs=0.4)
    assert part["capacity"][0] is None  # the pool serves more than what is chosen


async def test_csv_has_a_row_for_each_bucket(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/demand.csv", params={"range": "6h", "points": 30})
    assert answer.headers["content-disposition"].startswith("attachment")
    lines = answer.text.splitlines()
    assert lines[0].startswith("time,t,gpus,gpus_min,gpus_max")
    assert lines[1].startswith("2026-11-19T06:00:00Z,")
    assert len(lines) == 1 + 24


async def test_the_forecast_is_a_fan_and_an_outlook(client: httpx.AsyncClient) -> None:
    found = (await client.get("/v1/forecasts", params={"hours": 30})).json()
    assert found["is_ready"]
    assert found["t"][0] == END + 60
    assert np.diff(np.array(found["values"]), axis=0).min() >= 0  # quantiles do not cross
    assert len(found["outlook_t"]) == 30
    assert found["point"][0] == pytest.approx(8.0, abs=1.5)


async def test_the_plan_has_reasons_and_measured_boots(client: httpx.AsyncClient) -> None:
    (found,) = (await client.get("/v1/plans")).json()
    assert (found["region"], found["pool"], found["age_s"], found["is_stale"]) == ("eu", "all", 0.0, False)
    assert found["is_boot_measured"]
    assert found["planned"]["boot_p95_s"] == 300.0
    assert found["planned"]["points"][0]["reason"]
    assert found["changes"][0]["reason"]
    assert found["capacity"] == 12.0


async def test_accuracy_tells_coverage_weights_and_a_verdict(client: httpx.AsyncClient) -> None:
    found = (await client.get("/v1/accuracy")).json()
    score = next(each for each in found["scores"] if each["horizon"] == 9)
    assert score["day"]["minutes"] > 700
    assert 0.7 < score["day"]["coverage"][2] <= 1.0
    assert sum(score["weights"].values()) == pytest.approx(1.0)
    assert found["verdict"]["is_good"]


async def test_an_announced_event_lifts_forecast_and_plan_until_it_is_taken_out(client: httpx.AsyncClient) -> None:
    before = (await client.get("/v1/plans")).json()[0]["planned"]["replicas"]
    event = {"name": "Drop!", "start": END + 60, "end": END + 7200, "uplift": 4.0, "region": "eu"}
    made = (await client.post("/v1/events", json=event)).json()
    lifted = (await client.get("/v1/plans")).json()[0]["planned"]
    assert lifted["replicas"] > 2 * before
    fan = (await client.get("/v1/forecasts")).json()
    assert fan["point"][1] > 3 * 8.0
    assert [each["id"] for each in (await client.get("/v1/events")).json()] == [made["id"]]
    assert (await client.delete(f"/v1/events/{made['id']}")).status_code == 204
    assert (await client.get("/v1/forecasts")).json()["point"][1] < 12
    assert (await client.delete(f"/v1/events/{made['id']}")).status_code == 404


async def test_an_event_of_one_class_lifts_its_share_alone(client: httpx.AsyncClient, planner: Planner) -> None:
    from halfdrop.contracts.demand_events import DemandEvent
    from halfdrop.forecaster.service.series import Choice

    event = DemandEvent(id="a", name="a", start=END, end=END + 7200, uplift=3.0, job_classes=("bulk",))
    await planner.calendar.put(event)
    await planner.read_calendar()
    (touch,) = planner.touches(Choice())
    assert touch.share == pytest.approx(0.25, abs=0.02)
    await planner.calendar.delete("a")
    await planner.read_calendar()


async def test_the_month_is_spent_and_expected(client: httpx.AsyncClient) -> None:
    (found,) = (await client.get("/v1/spend")).json()
    assert found["spent"] == pytest.approx(12 * 2.0 * MINUTES / 60, rel=0.03)  # 12 GPUs at 2.00; the gap is planned
    assert found["spent"] < found["low"] <= found["expected"] <= found["high"]
    assert found["is_assumed"]
    assert found["days"][-1]["t"] == found["month_end"]
    assert found["days"][-1]["expected"] == pytest.approx(found["expected"])


async def test_a_policy_is_drafted_applied_and_planned_by(client: httpx.AsyncClient) -> None:
    body = {"wishes": {"replicas_min": 17, "price_per_hour": 3.0}, "why": "tried"}
    draft = (await client.post("/v1/policies/eu/all/draft", json=body)).json()
    assert "minReplicas: 17" in draft["yaml"]
    assert (await client.get("/v1/plans")).json()[0]["planned"]["replicas"] < 17
    applied = (await client.put("/v1/policies/eu/all", json=body)).json()
    assert applied["stored_at"] == "capacity/terms/eu.all.json"
    plan = (await client.get("/v1/plans")).json()[0]
    assert plan["planned"]["replicas"] == 17
    assert not plan["is_assumed"]
    await client.put("/v1/policies/eu/all", json={"wishes": {"replicas_min": 1, "price_per_hour": 2.0}})


async def test_metrics_tell_the_plan(client: httpx.AsyncClient) -> None:
    text = (await client.get("/metrics")).text
    assert 'halfdrop_planner_planned_replicas{pool="all",region="eu"}' in text
    assert 'halfdrop_planner_coverage_ratio{pool="all",quantile="0.9",region="eu"}' in text


@pytest.mark.parametrize(
    ("request_line", "body", "status", "word"),
    [
        ("GET /v1/demand?range=year", None, 422, "6h"),
        ("GET /v1/demand?points=1000000", None, 422, "points"),
        ("GET /v1/demand?from=9&to=3", None, 422, "from"),
        ("GET /v1/demand?from=nan&to=3", None, 422, "from"),
        ("GET /v1/demand?points=few", None, 400, "points"),
        ("GET /v1/forecasts?hours=0", None, 422, "hours"),
        ("GET /v1/plans/mars/all", None, 404, "eu.all"),
        ("GET /v1/none", None, 404, "openapi"),
        ("POST /v1/events", {"name": "a", "start": 1.8e9, "end": 1.9e9, "uplift": 2}, 422, "31 days"),
        ("POST /v1/events", {"name": "a", "start": 1.8e9, "end": 1.8e9 + 600, "uplift": -1}, 422, "uplift"),
        ("POST /v1/events", {"name": "a"}, 400, "start"),
        ("POST /v1/what-if", {"region": "eu", "pool": "none"}, 404, "eu.all"),
        ("POST /v1/what-if", {"region": "eu", "pool": "all", "days": 400}, 400, "28"),
        ("POST /v1/what-if", {"region": "eu", "pool": "all", "wishes": {"replicas_min": 9000}}, 422, "replicas_min"),
        ("POST /v1/what-if", {"region": "eu", "pool": "all", "wishes": {"colour": 1}}, 400, "colour"),
        ("GET /v1/what-if/replay-9", None, 404, "replay-9"),
        ("PUT /v1/policies/eu/all", {"wishes": {"late_share_target": 1.5}}, 400, "late_share_target"),
    ],
)
async def test_bad_input_is_answered_with_what_is_allowed(
    client: httpx.AsyncClient, request_line: str, body: object, status: int, word: str
) -> None:
    answer = await client.request(*request_line.split(" "), json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert word in answer.json()["detail"]


async def test_strange_pages_reach_nothing(client: httpx.AsyncClient) -> None:
    rebound = await client.get("/v1/plans", headers={"Host": "evil.example:8090"})
    assert rebound.status_code == 421
    event = {"name": "a", "start": END, "end": END + 600, "uplift": 2}
    foreign = await client.post("/v1/events", json=event, headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 421
    assert (await client.get("/v1/events")).json() == []
    own = await client.get("/healthz", headers={"Host": "testserver.local"})
    assert own.json()["status"] == "ok"


async def test_the_page_comes_with_a_policy_and_is_not_sent_twice(client: httpx.AsyncClient) -> None:
    page = await client.get("/")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    again = await client.get("/", headers={"If-None-Match": page.headers["etag"]})
    assert again.status_code == 304
    for path in ("/planner/planner.js", "/planner/vendor/uPlot.iife.min.js"):
        assert (await client.get(path)).headers["content-type"].startswith("text/javascript")
    assert (await client.get("/planner/../settings.py")).status_code == 404


async def test_the_description_names_every_route(client: httpx.AsyncClient) -> None:
    paths = json.loads((await client.get("/schema/openapi.json")).text)["paths"]
    assert {"/v1/demand", "/v1/forecasts", "/v1/plans", "/v1/events", "/v1/accuracy", "/v1/what-if"} <= paths.keys()


@pytest.mark.parametrize("by", ["region", "class", "model"])
async def test_the_parts_of_a_forecast_add_up_to_the_whole(client: httpx.AsyncClient, by: str) -> None:
    found = (await client.get("/v1/forecasts/parts", params={"by": by})).json()
    assert found["is_ready"]
    assert found["horizons"] == [1, 9, 60]
    names = {"region": ["eu"], "class": ["bulk", "realtime"], "model": ["house"]}[by]
    assert [part["name"] for part in found["parts"]] == names
    sums = np.sum([part["point"] for part in found["parts"]], axis=0)
    np.testing.assert_allclose(sums, found["whole"]["point"], rtol=1e-9)
    assert found["whole"]["point"][1] == pytest.approx(8.0, abs=1.5)
    for part in (*found["parts"], found["whole"]):
        assert all(high >= point for high, point in zip(part["high"], part["point"], strict=True))
    if by == "class":
        alone = np.sum([part["alone"] for part in found["parts"]], axis=0)
        assert not np.allclose(alone, found["whole"]["alone"], rtol=1e-6), "by themselves they do not add up"
    answer = await client.get("/v1/forecasts/parts", params={"by": "colour"})
    assert answer.status_code == 400


async def test_an_uplift_is_learnt_from_past_events_of_the_kind_or_asked_for(client: httpx.AsyncClient) -> None:
    next_one = {"name": "Next", "kind": "burst", "start": END + 600, "end": END + 1200, "region": "eu"}
    unknown = (await client.get("/v1/events/learnt", params={"kind": "burst"})).json()
    assert unknown["learnt"] is None
    assert unknown["words"].startswith("No past burst to learn from")
    refused = await client.post("/v1/events", json=next_one)
    assert refused.status_code == 422
    assert "no past 'burst' to learn it from" in refused.text
