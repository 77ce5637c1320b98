"""Replicate's own Python client, as it comes from the index, against a live edge with a hub behind it.

The edge asks for keys, so the client's token is one. Where the client reads what no other client would look at (event
names, ids of events, `status` after a wait), the answer to it is looked at here as it is on the wire, too.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
import replicate
from nats.js.errors import NotFoundError
from replicate.exceptions import ModelError, ReplicateError

from halfdrop.contracts.jobs import Job, JobError, JobState, JobStatus, accepted_status, decode_job, encode_status
from halfdrop.contracts.patterns import pattern_key
from halfdrop.contracts.subjects import HUB_DOMAIN, JOBS_STREAM, job_event
from halfdrop.deploy.processes import make_hub
from halfdrop.deploy.servers import NatsServer
from halfdrop.edge.keys import create_key
from halfdrop.runtime.broker import open_broker
from halfdrop.runtime.objects import open_objects

if TYPE_CHECKING:
    from tests.conftest import WaitUntil
    from tests.integration.conftest import LiveEdge, StartEdge

SMALL = {"prompt": "black houndstooth on cream", "size_px": 256}
MODEL = "halfdrop/house"
PNG = b"\x89PNG"


@pytest.fixture
async def hub(hub_nats: NatsServer, objects_url: str, tmp_path: Path) -> AsyncIterator[None]:
    """A hub that finishes orders; tests without it play its part."""
    worker = make_hub(name="hub-1", nats_url=hub_nats.url, objects_url=objects_url, log_path=tmp_path / "hub.log")
    await worker.start()
    yield
    await worker.stop()


@pytest.fixture
async def token(objects_url: str) -> str:
    key, _ = await create_key(
        open_objects(objects_url), tenant="acme", scopes=("orders",), tier="standard", label="",
        now=time.time(), expires_at=None,
    )  # fmt: skip
    return key


@pytest.fixture
async def edge(start_edge: "StartEdge", token: str) -> "LiveEdge":
    return await start_edge(ACCESS="keys")


@contextmanager
def connect(edge: "LiveEdge", token: str) -> Iterator[replicate.Client]:
    client = replicate.Client(api_token=token, base_url=edge.url)
    client.poll_interval = 0.05
    try:
        yield client
    finally:
        client._client.close()


async def use(edge: "LiveEdge", token: str, what: Callable[[replicate.Client], Any]) -> Any:
    """Run `what` with a client in a thread: the client blocks."""

    def run() -> Any:
        with connect(edge, token) as client:
            return what(client)

    return await asyncio.to_thread(run)


def fetch(client: replicate.Client, url: str) -> bytes:
    response = client._client.get(url)
    response.raise_for_status()
    return response.content


@pytest.mark.usefixtures("hub")
async def test_orders_are_placed_waited_for_reloaded_listed_and_canceled(edge: "LiveEdge", token: str) -> None:
    def place(client: replicate.Client) -> None:
        by_version = client.predictions.create(version="house", input=SMALL)
        by_version.wait()
        assert by_version.status == "succeeded"
        assert fetch(client, by_version.output["master"]).startswith(PNG)
        by_model = client.predictions.create(model=MODEL, input=SMALL)
        by_name = client.models.predictions.create(model=("halfdrop", "house"), input=SMALL, wait=30)
        assert by_name.status == "succeeded"
        by_model.wait()
        assert by_model.output.keys() == {"master", "separations", "svg", "proof", "manifest"}
        assert client.predictions.get(by_model.id).completed_at == by_model.completed_at
        large = client.predictions.create(version="house", input={**SMALL, "size_px": 8192})
        large.cancel()
        large.wait()
        large.reload()
        assert large.status == "canceled"
        page = client.predictions.list()
        assert [each.id for each in page] == [large.id, by_name.id, by_model.id, by_version.id]

    await use(edge, token, place)


@pytest.mark.usefixtures("hub")
async def test_run_returns_the_files_by_name_version_and_model_object(edge: "LiveEdge", token: str) -> None:
    def run(client: replicate.Client) -> None:
        model = client.models.get(MODEL)
        assert (model.owner, model.name, model.visibility, model.run_count) == ("halfdrop", "house", "public", 0)
        assert "size_px" in model.latest_version.openapi_schema["components"]["schemas"]["Input"]["properties"]
        (version,) = model.versions.list()
        assert version.id == model.versions.get("house").id == model.latest_version.id
        for reference in (MODEL, f"{MODEL}:{version.id}", model, version):
            output = client.run(reference, input=SMALL)
            # The client wraps https addresses only; on loopback it hands them over as they are.
            assert fetch(client, output["master"]).startswith(PNG)
        polled = client.run(MODEL, input=SMALL, wait=False)
        assert fetch(client, polled["svg"]).startswith(b"<svg")
        assert client.models.get("halfdrop", "house").run_count == 5

    await use(edge, token, run)


@pytest.mark.usefixtures("hub")
async def test_the_asynchronous_client_works_too(edge: "LiveEdge", token: str) -> None:
    client = replicate.Client(api_token=token, base_url=edge.url)
    try:
        output = await client.async_run(MODEL, input=SMALL)
        assert urlsplit(output["master"]).path.endswith("/master.png")
        names = [event.event.value async for event in await client.async_stream(MODEL, input=SMALL)]
        assert names[-1] == "done"
    finally:
        await client._async_client.aclose()


@pytest.mark.usefixtures("hub")
async def test_a_stream_tells_the_log_then_the_files_then_that_it_is_done(edge: "LiveEdge", token: str) -> None:
    def stream(client: replicate.Client) -> None:
        for events in (
            list(client.stream(MODEL, input={**SMALL, "prompt": "sunflowers on cream"})),
            list(client.predictions.create(version="house", input=SMALL, stream=True).stream()),
        ):
            names = [event.event.value for event in events]
            assert names == sorted(names, key=["logs", "output", "done"].index)
            urls = [str(event) for event in events if event.event.value == "output"]
            assert urlsplit(urls[0]).path.endswith("/master.png")
            assert fetch(client, urls[0]).startswith(PNG)
            assert len(urls) >= 4
            assert events[-1].data == "{}"
            assert len({event.id for event in events}) == len(events)  # each a place to go on from
            assert any(event.event.value == "logs" and event.data for event in events)

    await use(edge, token, stream)


async def test_a_failed_order_raises_with_its_reason(
    edge: "LiveEdge", token: str, hub_nats: NatsServer, wait_until: "WaitUntil"
) -> None:
    running = asyncio.create_task(use(edge, token, lambda client: client.run(MODEL, input=SMALL)))
    failed = await finish_next(hub_nats, 1, wait_until, state=JobState.FAILED, detail="plates: too short")
    with pytest.raises(ModelError, match="plates: too short"):
        await running

    def stream(client: replicate.Client) -> None:
        for _ in client.predictions.get(failed.id).stream():
            pass

    with pytest.raises(RuntimeError, match="plates: too short"):
        await use(edge, token, stream)


async def test_a_wait_in_vain_is_gone_on_with_by_polling(
    edge: "LiveEdge", token: str, hub_nats: NatsServer, wait_until: "WaitUntil"
) -> None:
    running = asyncio.create_task(use(edge, token, lambda client: client.run(MODEL, input=SMALL, wait=1)))
    job = await next_job(hub_nats, 1, wait_until)
    working = msgspec.structs.replace(
        accepted_status(job, pattern_key(job.spec)), state=JobState.PROCESSING, attempt=1, started_at=time.time()
    )
    await publish(hub_nats, working)

    async def is_processing() -> bool:
        return bool((await look_up(edge, token, job.id))["status"] == "processing")

    await wait_until(is_processing)
    await asyncio.sleep(1.2)  # past the wait: what it was told then is "starting", or run() would have returned
    assert not running.done()
    await publish(
        hub_nats, msgspec.structs.replace(working, state=JobState.COMPLETED, completed_at=time.time(), step=1, steps=1)
    )
    assert await running == {"master": None, "separations": [], "svg": None, "proof": None}


async def test_webhook_members_are_kept_with_the_order_and_checked(edge: "LiveEdge", token: str) -> None:
    def place(client: replicate.Client) -> None:
        url = "https://example.com/hook?order=1"
        asked = client.predictions.create(
            version="house", input=SMALL, webhook=url, webhook_events_filter=["completed", "start"]
        )
        kept = fetch_json(client, asked.id)
        assert (kept["webhook"], kept["webhook_events_filter"]) == (url, ["start", "completed"])
        everything = client.predictions.create(version="house", input=SMALL, webhook="https://hooks.example.com:8443")
        assert fetch_json(client, everything.id)["webhook_events_filter"] == ["start", "output", "logs", "completed"]
        nothing = fetch_json(client, client.predictions.create(version="house", input=SMALL).id)
        assert (nothing["webhook"], nothing["webhook_events_filter"], nothing["deadline"]) == (None, None, None)
        for wrong in ("ftp://example.com", "example.com", "https://", "https://u:p@example.com", "https://e.com/\n",
                      "https://e.com/" + "a" * 2_000, "http://example.com", "https://[::1]:8000"):  # fmt: skip
            with pytest.raises(ReplicateError) as refused:
                client.predictions.create(version="house", input=SMALL, webhook=wrong)
            assert refused.value.status == 422
            assert "webhook: got" in refused.value.detail
        with pytest.raises(ReplicateError, match="'start' or 'output' or 'logs' or 'completed'"):
            client.predictions.create(version="house", input=SMALL, webhook=url, webhook_events_filter=["all"])

    await use(edge, token, place)


async def test_an_order_is_canceled_at_its_deadline_also_after_a_restart(
    edge: "LiveEdge", token: str, wait_until: "WaitUntil"
) -> None:
    headers = {"Authorization": f"Bearer {token}", "Cancel-After": "5s"}
    placed = await edge.client.post("/v1/predictions", json={"input": SMALL}, headers=headers)
    assert placed.status_code == 201
    assert placed.json()["deadline"] > placed.json()["created_at"]
    for wrong in ("4", "0", "1d", "soon", "-5s", "5.5s", "１0"):
        refused = await edge.client.post(
            "/v1/predictions", json={"input": SMALL}, headers={**headers, "Cancel-After": wrong.encode()}
        )
        assert (refused.status_code, refused.json()["field"]) == (422, "Cancel-After"), wrong
    await edge.restart()
    order_id = placed.json()["id"]

    async def is_canceled() -> bool:
        return bool((await look_up(edge, token, order_id))["status"] == "canceled")

    await wait_until(is_canceled)
    found = await look_up(edge, token, order_id)
    assert found["completed_at"] >= found["deadline"]


async def test_a_wrong_token_and_a_wrong_model_are_said_as_the_client_says_them(edge: "LiveEdge", token: str) -> None:
    def ask(client: replicate.Client) -> None:
        with pytest.raises(ReplicateError) as refused:
            client.models.get("stability-ai/sdxl")
        assert (refused.value.status, refused.value.title) == (404, "Not found")

    await use(edge, token, ask)
    with pytest.raises(ReplicateError, match="Unauthorized"):
        await use(edge, "r8_wrong", lambda client: client.predictions.create(version="house", input=SMALL))


async def look_up(edge: "LiveEdge", token: str, order_id: str) -> dict[str, Any]:
    response = await edge.client.get(f"/v1/predictions/{order_id}", headers={"Authorization": f"Bearer {token}"})
    found: dict[str, Any] = response.raise_for_status().json()
    return found


def fetch_json(client: replicate.Client, order_id: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.Response(200, content=fetch(client, f"/v1/predictions/{order_id}")).json()
    return found


async def next_job(hub_nats: NatsServer, number: int, wait_until: "WaitUntil") -> Job:
    """Return the order that came to the hub as the `number`th."""
    async with open_broker(hub_nats.url, name="test", domain=HUB_DOMAIN) as broker:

        async def has_come() -> bool:
            try:
                return bool((await broker.js.stream_info(JOBS_STREAM)).state.last_seq >= number)
            except NotFoundError:  # the edge has not come to it yet
                return False

        await wait_until(has_come, timeout_s=30)
        return decode_job((await broker.js.get_msg(JOBS_STREAM, seq=number)).data or b"")


async def publish(hub_nats: NatsServer, status: JobStatus) -> None:
    async with open_broker(hub_nats.url, name="test", domain=HUB_DOMAIN) as broker:
        await broker.js.publish(job_event(status.origin, status.id), encode_status(status))


async def finish_next(
    hub_nats: NatsServer, number: int, wait_until: "WaitUntil", *, state: JobState, detail: str
) -> JobStatus:
    job = await next_job(hub_nats, number, wait_until)
    ended = msgspec.structs.replace(
        accepted_status(job, pattern_key(job.spec)), state=state, attempt=1, completed_at=time.time(),
        error=JobError(code="bad-plates", detail=detail),
    )  # fmt: skip
    await publish(hub_nats, ended)
    return ended
