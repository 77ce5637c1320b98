"""One suite over every tier of the cache, on real servers: what `Tier` promises, each of them keeps."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from moto.server import ThreadedMotoServer

from halfdrop.cache.disk import open_lmdb_tier
from halfdrop.cache.memory import MemoryTier
from halfdrop.cache.objects import ObjectTier
from halfdrop.cache.regional import open_redis_tier
from halfdrop.cache.tiers import KEY_MAX_BYTES, Tier
from halfdrop.deploy.servers import ValkeyServer
from halfdrop.runtime.objects import open_objects

CAPACITY_BYTES = 8 * 2**20
BUCKET = "patterns"
MOTO_LOGIN = {"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"}


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    """Moto's S3, over HTTP, with one empty bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    httpx.put(f"{url}/{BUCKET}", headers=MOTO_LOGIN).raise_for_status()
    yield url
    server.stop()


@pytest.fixture(params=["memory", "lmdb", "redis", "objects-file", "objects-s3"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Tier:
    match request.param:
        case "memory":
            return MemoryTier(CAPACITY_BYTES)
        case "lmdb":
            return open_lmdb_tier(tmp_path / "lmdb", capacity_bytes=CAPACITY_BYTES)
        case "redis":
            valkey: ValkeyServer = request.getfixturevalue("valkey")
            return open_redis_tier(valkey.url)
        case "objects-file":
            return ObjectTier(open_objects(request.getfixturevalue("objects_url")), path_of=path_of)
        case _:
            monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
            for name, value in {
                "AWS_ENDPOINT_URL": request.getfixturevalue("s3_endpoint"),
                "AWS_ALLOW_HTTP": "true",
                "AWS_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
            }.items():
                monkeypatch.setenv(name, value)
            return ObjectTier(open_objects(f"s3://{BUCKET}/{tmp_path.name}"), path_of=path_of)


@pytest.fixture
async def tier(opened: Tier) -> AsyncIterator[Tier]:
    yield opened
    await opened.aclose()


def path_of(key: str) -> str:
    return f"patterns/{key[:200]}/{key[200:]}.bin"  # a file system takes 255 bytes in one name


async def test_what_was_never_put_is_a_miss(tier: Tier) -> None:
    assert await tier.get("unknown") is None


@pytest.mark.parametrize("size", [0, 1, 7, 8, 4096, 300_000])
async def test_a_value_comes_back_byte_for_byte(tier: Tier, size: int) -> None:
    data = bytes(n % 251 for n in range(size))
    await tier.put("key", data)
    assert await tier.get("key") == data


async def test_a_second_put_replaces_the_first(tier: Tier) -> None:
    await tier.put("key", b"long first value")
    await tier.put("key", b"second")
    assert await tier.get("key") == b"second"


async def test_a_deleted_value_is_a_miss(tier: Tier) -> None:
    await tier.put("key", b"data")
    await tier.put("other", b"stays")
    await tier.delete("key")
    assert await tier.get("key") is None
    assert await tier.get("other") == b"stays"


async def test_deleting_what_is_not_there_is_no_error(tier: Tier) -> None:
    await tier.delete("unknown")


async def test_the_longest_key_and_keys_that_begin_alike_are_kept_apart(tier: Tier) -> None:
    longest = "k" * KEY_MAX_BYTES
    await tier.put("k", b"short")
    await tier.put(longest, b"long")
    assert (await tier.get("k"), await tier.get(longest)) == (b"short", b"long")
