"""Keys: made, kept as hashes, looked up, revoked; and no handler without a guard but those named here."""

import msgspec
import pytest

from halfdrop.contracts.errors import InvalidInput, NotFound
from halfdrop.edge.access import Door, Unauthorized
from halfdrop.edge.app import API_HANDLERS
from halfdrop.edge.keys import CHANGED_PATH, KeyRecord, create_key, read_keys, revoke_key
from halfdrop.runtime.objects import ObjectStore, open_objects

PUBLIC = {"/healthz", "/schema/openapi.json"}


@pytest.fixture
def objects() -> ObjectStore:
    return open_objects("memory://")


async def make(objects: ObjectStore, *, tenant: str = "acme", expires_at: float | None = None) -> tuple[str, KeyRecord]:
    return await create_key(
        objects, tenant=tenant, scopes=("previews",), tier="standard", label="", now=100.0, expires_at=expires_at
    )


def bearer(key: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"edge.example"), (b"authorization", f"Bearer {key}".encode())]


def test_only_what_is_meant_to_be_public_is() -> None:
    served = [handler for handler in API_HANDLERS if handler.http_methods != {"OPTIONS"}]
    assert {path for handler in served if not handler.guards for path in handler.paths} == PUBLIC


async def test_a_key_opens_the_door_until_it_is_revoked(objects: ObjectStore) -> None:
    key, record = await make(objects)
    door = Door(is_open=False)
    with pytest.raises(Unauthorized):
        door.admit(bearer(key))
    assert door.replace(await read_keys(objects), 200.0) == 1
    access = door.admit(bearer(key))
    assert access is not None
    assert (access.tenant, access.key_id, access.may("previews"), access.may("orders")) == (
        "acme", record.id, True, False
    )  # fmt: skip
    assert door.admit([(b"cookie", f"a=b; halfdrop_key={key}; c=d".encode())]) == access
    assert door.admit([(b"cookie", b"a=b")]) is None
    before = await objects.get(CHANGED_PATH)
    await revoke_key(objects, record.id, now=300.0)
    assert await objects.get(CHANGED_PATH) != before
    assert door.replace(await read_keys(objects), 301.0) == 0
    assert not door.still_admits(access)
    with pytest.raises(Unauthorized):
        door.admit(bearer(key))


async def test_an_expired_key_opens_nothing(objects: ObjectStore) -> None:
    key, _ = await make(objects, expires_at=150.0)
    door = Door(is_open=False)
    door.replace(await read_keys(objects), 140.0)
    with pytest.raises(Unauthorized, match="expired"):
        door.admit(bearer(key))


@pytest.mark.parametrize("header", [b"Basic YTpi", b"Bearer ", b"Bearer hd_x_y", b"\xff"])
async def test_anything_else_is_refused_and_never_repeated(header: bytes) -> None:
    with pytest.raises(Unauthorized) as refused:
        Door(is_open=False).admit([(b"authorization", header)])
    assert "hd_x" not in refused.value.detail
    assert Door(is_open=True).admit([(b"authorization", header)]) is not None


async def test_no_object_holds_the_key(objects: ObjectStore) -> None:
    key, record = await make(objects)
    secret = key.rpartition("_")[2]
    for path in await objects.list("access"):
        assert secret.encode() not in (await objects.get(path) or b"")
    assert record in await read_keys(objects)
    assert secret not in str(msgspec.to_builtins(record))


@pytest.mark.parametrize("tenant", ["", "a/b", "A", "a.b", "../x", "-a", "a" * 41, "a\n"])
async def test_a_tenant_that_cannot_be_a_path_is_refused(objects: ObjectStore, tenant: str) -> None:
    with pytest.raises(InvalidInput, match="--tenant"):
        await make(objects, tenant=tenant)


@pytest.mark.parametrize("key_id", ["../keys", "0" * 10, ""])
async def test_revoking_what_is_not_there_says_so(objects: ObjectStore, key_id: str) -> None:
    with pytest.raises(NotFound, match="keys list"):
        await revoke_key(objects, key_id, now=1.0)
