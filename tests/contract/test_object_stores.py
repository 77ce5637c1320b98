"""One suite over every object store that runs here: a directory, memory, and S3 as moto serves it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from halfdrop.contracts.errors import PermanentError, Unavailable
from halfdrop.runtime.objects import BlockingObjectStore, ObjectStore, open_objects


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["file", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    if request.param == "file":
        return open_objects(f"file://{tmp_path}/objects")
    if request.param == "memory":
        return open_objects("memory://")
    endpoint = request.getfixturevalue("s3_endpoint")
    for name, value in {
        "AWS_ENDPOINT": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = f"b-{tmp_path.name}".lower().replace("_", "-")[:60].rstrip("-")
    _create_bucket(endpoint, bucket)
    return open_objects(f"s3://{bucket}")


def _create_bucket(endpoint: str, bucket: str) -> None:
    import boto3

    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    client.create_bucket(Bucket=bucket)


async def test_an_object_is_read_back_as_it_was_written(store: ObjectStore) -> None:
    await store.put("jobs/a/master.png", b"first", media_type="image/png")
    await store.put("jobs/a/master.png", b"second", media_type="image/png")
    assert await store.get("jobs/a/master.png") == b"second"
    assert await store.size("jobs/a/master.png") == 6


async def test_of_several_who_create_an_object_one_wins(store: ObjectStore) -> None:
    made = await asyncio.gather(*(store.create("access/first", bytes([number])) for number in range(8)))
    assert made.count(True) == 1
    assert await store.get("access/first") == bytes([made.index(True)])


async def test_a_missing_object_is_none_and_not_an_outage(store: ObjectStore) -> None:
    assert await store.get("jobs/none") is None
    assert await store.size("jobs/none") is None
    await store.delete("jobs/none")
    with pytest.raises(FileNotFoundError):
        [chunk async for chunk in store.stream("jobs/none")]


async def test_a_part_of_an_object_is_read_alone_and_never_more_than_there_is(store: ObjectStore) -> None:
    await store.put("models/weights", bytes(range(100)))
    assert await store.get_range("models/weights", 10, 20) == bytes(range(10, 30))
    assert await store.get_range("models/weights", 90, 20) == bytes(range(90, 100))
    assert await store.get_range("models/none", 0, 20) is None


async def test_names_that_hold_an_alias_are_listed_as_they_were_written(store: ObjectStore) -> None:
    await store.put("model-aliases/house@stable.json", b"{}")
    blocking = BlockingObjectStore(store._store, store.url)
    for either in (store, blocking):
        assert await either.list("model-aliases") == ["model-aliases/house@stable.json"]
    await blocking.delete("model-aliases/house@stable.json")
    await blocking.delete("model-aliases/house@stable.json")
    assert await blocking.list("model-aliases") == []


async def test_a_large_object_is_streamed_whole(store: ObjectStore) -> None:
    data = bytes(range(256)) * 20_000
    await store.put("big", data)
    assert b"".join([chunk async for chunk in store.stream("big")]) == data


async def test_objects_are_listed_by_folder_and_deleted(store: ObjectStore) -> None:
    for path in ("jobs/a/1", "jobs/a/2", "jobs/ab/3"):
        await store.put(path, b"x")
    assert await store.list("jobs/a") == ["jobs/a/1", "jobs/a/2"]
    await store.delete("jobs/a/1")
    assert await store.list("jobs/a") == ["jobs/a/2"]


async def test_an_outage_is_an_error_and_not_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"AWS_ENDPOINT": "http://127.0.0.1:9", "AWS_ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    store = open_objects("s3://bucket")
    with pytest.raises(Unavailable, match="object store cannot read jobs/a"):
        await store.get("jobs/a")


@pytest.mark.parametrize("url", ["", "ftp://host/dir", "/plain/path", "file:///proc/halfdrop"])
def test_a_url_that_names_no_usable_store_is_refused(url: str) -> None:
    with pytest.raises(PermanentError) as caught:
        open_objects(url)
    assert caught.value.code == "bad-store"
