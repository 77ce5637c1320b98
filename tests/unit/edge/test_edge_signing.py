"""Signed addresses: what fits opens, nothing else does; secrets change without an address dying before its time."""

import asyncio

import pytest

from halfdrop.edge.keys import CHANGED_PATH
from halfdrop.edge.settings import ADDRESS_TTL_MAX_S
from halfdrop.edge.signing import AddressRefused, Signer, without_signature
from halfdrop.edge.signing_keys import (
    SETTLE_S,
    SigningKey,
    choose_signing_key,
    ensure_signing_keys,
    read_signing_keys,
    rotate_signing_key,
    verifies_until,
)
from halfdrop.runtime.objects import open_objects

PATH = "/p/" + "ab" * 16 + ".webp"
NOW = 1_700_000_000.0
HOUR_S = 3600.0


class Hand:
    """A clock that is set by hand."""

    now = NOW

    def __call__(self) -> float:
        return self.now


def key(name: str, made_at: float = NOW - 1000) -> SigningKey:
    return SigningKey(id=name, secret=name.encode() * 8, made_at=made_at)


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def signer(clock: Hand) -> Signer:
    made = Signer(HOUR_S, clock)
    made.replace([key("a")])
    return made


def split(address: str) -> tuple[str, bytes]:
    path, _, query = address.partition("?")
    return path, query.encode()


@pytest.mark.parametrize("address", [f"{PATH}?px=256", PATH])
def test_an_address_fits_until_it_expires(signer: Signer, clock: Hand, address: str) -> None:
    path, query = split(signer.sign(address, "acme"))
    signed = signer.verify(path, query)
    assert (signed.tenant, signed.expires_at) == ("acme", NOW + HOUR_S)
    assert without_signature(query) == split(address)[1]
    clock.now = NOW + HOUR_S - 0.5
    assert signer.verify(path, query)
    assert signer.seconds_left(signed) == 0
    clock.now = NOW + HOUR_S
    with pytest.raises(AddressRefused, match="was good until 2023-11-14T23:13:20Z") as refused:
        signer.verify(path, query)
    assert refused.value.code == "address-expired"


def test_a_whole_url_is_signed_by_its_path(signer: Signer) -> None:
    address = signer.sign("https://edge.example/v1/predictions/x/files/master.png", "acme")
    assert address.startswith("https://edge.example/v1/predictions/x/files/master.png?tenant=acme&expires=")
    assert signer.verify(*split(address.removeprefix("https://edge.example")))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (".webp?", ".webp/?"), ("/p/ab", "/p/ac"), ("px=256", "px=512"), ("px=256&", ""), ("tenant=acme", "tenant=acm"),
        ("expires=1700003600", "expires=1700003601"), ("expires=", "expires=0"), ("expires=", "expires=+"),
        ("&signature=", "&x=1&signature="), ("tenant=acme&", ""), ("signature=", "signature=A"),
        ("&tenant=acme", "&tenant=acme&tenant=acme"), ("tenant=acme", "tenant=a/b"), ("tenant=acme", "tenant=acme%0A"),
    ],
)  # fmt: skip
def test_what_was_altered_fits_no_more(signer: Signer, old: str, new: str) -> None:
    address = signer.sign(f"{PATH}?px=256", "acme")
    assert signer.verify(*split(address))
    altered = address.replace(old, new, 1)
    assert altered != address
    with pytest.raises(AddressRefused) as refused:
        signer.verify(*split(altered))
    assert refused.value.code == "bad-signature"


def test_parts_cannot_be_moved_between_path_and_query(signer: Signer) -> None:
    _, query = split(signer.sign(f"{PATH}?px=256", "acme"))
    with pytest.raises(AddressRefused):
        signer.verify(f"{PATH}?px=256", query.replace(b"px=256&", b""))


def test_another_secret_fits_nothing(signer: Signer, clock: Hand) -> None:
    address = signer.sign(PATH, "acme")
    stranger = Signer(HOUR_S, clock)
    stranger.replace([key("b")])
    with pytest.raises(AddressRefused):
        stranger.verify(*split(address))


def test_a_new_secret_signs_once_all_know_it_and_an_old_one_verifies_as_long_as_it_must(clock: Hand) -> None:
    old, new = key("a"), key("b", NOW)
    behind, ahead = Signer(ADDRESS_TTL_MAX_S, clock), Signer(ADDRESS_TTL_MAX_S, clock)
    behind.replace([old])
    ahead.replace([old, new])
    clock.now = NOW + SETTLE_S - 1
    address = ahead.sign(PATH, "acme")
    assert behind.verify(*split(address)), "an edge that has not read the new secret yet is asked"
    clock.now = NOW + SETTLE_S
    assert choose_signing_key([old, new], clock.now) is new
    assert ahead.verify(*split(ahead.sign(PATH, "acme")))
    clock.now = NOW + SETTLE_S - 1 + ADDRESS_TTL_MAX_S - 1
    assert ahead.verify(*split(address)), "signed by the old secret in its last second, and not over"
    assert verifies_until([old, new], 0) == NOW + SETTLE_S + ADDRESS_TTL_MAX_S


async def test_edges_that_start_together_share_one_secret() -> None:
    objects = open_objects("memory://")
    found = await asyncio.gather(*(ensure_signing_keys(objects, now=NOW + number) for number in range(5)))
    assert len({keys[0].secret for keys in found}) == 1
    assert all(len(keys) == 1 and len(keys[0].secret) == 32 for keys in found)
    assert await ensure_signing_keys(objects, now=NOW + 100) == found[0]
    assert repr(found[0][0].secret) not in repr(found[0][0])


async def test_rotation_adds_a_secret_tells_the_edges_and_clears_what_is_over() -> None:
    objects = open_objects("memory://")
    (first,) = await ensure_signing_keys(objects, now=NOW)
    second = await rotate_signing_key(objects, now=NOW + 10)
    marker = await objects.get(CHANGED_PATH)
    assert marker
    assert await read_signing_keys(objects) == [first, second]
    third = await rotate_signing_key(objects, now=NOW + 10 + SETTLE_S + ADDRESS_TTL_MAX_S + 1)
    assert await objects.get(CHANGED_PATH) != marker
    assert await read_signing_keys(objects) == [second, third]
    fourth = await rotate_signing_key(objects, now=NOW + 20 + ADDRESS_TTL_MAX_S, is_at_once=True)
    assert await read_signing_keys(objects) == [fourth]
    assert choose_signing_key([fourth], fourth.made_at) is fourth
