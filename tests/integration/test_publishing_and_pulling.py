"""Publishing and pulling in batches, over a real server: each message once, in order, with an answer of its own."""

import asyncio
import time
from collections.abc import AsyncIterator

import nats.errors
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, Header, StreamConfig
from nats.js.errors import APIError, NoStreamResponseError, ServiceUnavailableError

from halfdrop.contracts.subjects import HUB_DOMAIN
from halfdrop.deploy.servers import NatsServer
from halfdrop.runtime.broker import Broker, open_broker
from halfdrop.runtime.publishing import BATCH_MIN, GroupPublisher, allow_batches
from halfdrop.runtime.pulling import PULL_S, open_pull

MANY = 3 * BATCH_MIN


@pytest.fixture
async def hub(hub_nats: NatsServer) -> AsyncIterator[Broker]:
    async with open_broker(hub_nats.url, name="test", domain=HUB_DOMAIN) as broker:
        yield broker


async def make_stream(hub: Broker, *, is_batched: bool = True, max_bytes: int = 2**20) -> GroupPublisher:
    await hub.js.add_stream(
        StreamConfig(
            name="S", subjects=["s.>"], max_bytes=max_bytes, discard=DiscardPolicy.NEW, allow_atomic=is_batched
        )
    )
    return GroupPublisher(hub, hub.js, "S")


async def stored(hub: Broker) -> list[str]:
    state = (await hub.js.stream_info("S")).state
    return [(await hub.js.get_msg("S", seq=seq)).subject or "" for seq in range(1, state.last_seq + 1)]


def with_id(number: int) -> dict[str, str]:
    return {Header.MSG_ID.value: str(number)}


@pytest.mark.parametrize("is_batched", [True, False], ids=["batches", "none"])
async def test_what_many_publish_at_once_is_stored_once_each_in_order(hub: Broker, is_batched: bool) -> None:
    publisher = await make_stream(hub, is_batched=is_batched)
    await asyncio.gather(*(publisher.publish(f"s.{n}", b"x", headers=with_id(n)) for n in range(MANY)))
    assert await stored(hub) == [f"s.{n}" for n in range(MANY)]


async def test_many_cost_the_server_one_batch(hub: Broker) -> None:
    publisher = await make_stream(hub)
    await asyncio.gather(*(publisher.publish(f"s.{n}", b"x") for n in range(MANY)))
    batches = set()
    for seq in range(2, MANY + 1):  # the first goes alone: nobody waited when it came
        headers = (await hub.js.get_msg("S", seq=seq)).headers or {}
        batches.add(headers.get(Header.BATCH_ID.value))
    assert len(batches) == 1
    assert None not in batches


async def test_a_message_that_is_there_already_does_not_keep_the_others_out(hub: Broker) -> None:
    publisher = await make_stream(hub)
    await publisher.publish("s.7", b"x", headers=with_id(7))
    await asyncio.gather(*(publisher.publish(f"s.{n}", b"x", headers=with_id(n)) for n in range(MANY)))
    found = await stored(hub)
    assert sorted(found) == sorted(f"s.{n}" for n in range(MANY))


async def test_each_learns_whether_its_own_message_found_room(hub: Broker) -> None:
    publisher = await make_stream(hub, max_bytes=20_000)
    sent = [publisher.publish(f"s.{n}", b"x" * 1_500) for n in range(MANY)]
    outcomes = await asyncio.gather(*sent, return_exceptions=True)
    refused = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, APIError)]
    assert 0 < len(refused) < MANY
    assert await stored(hub) == [f"s.{n}" for n in range(MANY) if n not in refused]


async def test_a_caller_that_goes_away_takes_nobody_with_it(hub: Broker) -> None:
    publisher = await make_stream(hub)
    tasks = [asyncio.ensure_future(publisher.publish(f"s.{n}", b"x", headers=with_id(n))) for n in range(MANY)]
    await asyncio.sleep(0)  # the first has the turn now
    tasks[0].cancel()
    tasks[5].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [n for n, outcome in enumerate(outcomes) if outcome is not None] == [0, 5]
    assert {f"s.{n}" for n in range(MANY)} - set(await stored(hub)) <= {"s.0", "s.5"}
    assert len(await stored(hub)) == len(set(await stored(hub)))


async def test_nobody_to_take_a_message_is_an_error_at_once(hub: Broker) -> None:
    publisher = GroupPublisher(hub, hub.js, "S")
    outcomes = await asyncio.gather(*(publisher.publish(f"s.{n}", b"x") for n in range(MANY)), return_exceptions=True)
    assert all(isinstance(outcome, NoStreamResponseError) for outcome in outcomes)


async def test_a_stream_from_before_learns_to_take_batches(hub: Broker) -> None:
    await make_stream(hub, is_batched=False)
    await hub.js.publish("s.0", b"kept")
    await allow_batches(hub.js, "S")
    info = await hub.js.stream_info("S")
    assert info.config.allow_atomic
    assert info.state.messages == 1


async def add_consumer(hub: Broker) -> None:
    config = ConsumerConfig(name="c", durable_name="c", ack_policy=AckPolicy.EXPLICIT, ack_wait=30)
    await hub.js.add_consumer("S", config)


async def test_a_lone_message_is_not_made_to_wait_for_others(hub: Broker) -> None:
    publisher = await make_stream(hub)
    await add_consumer(hub)
    async with open_pull(hub, domain=HUB_DOMAIN, stream="S", consumer="c") as pull:
        fetching = asyncio.ensure_future(pull.fetch(100))
        await asyncio.sleep(0.1)
        began_s = time.monotonic()
        await publisher.publish("s.1", b"x")
        (message,) = await fetching
        assert time.monotonic() - began_s < PULL_S / 2
        await publisher.publish("s.2", b"x")
        (second,) = await pull.fetch(100)
    assert (message.subject, second.subject) == ("s.1", "s.2")


async def test_all_come_once_in_order_and_never_more_than_asked_for(hub: Broker) -> None:
    publisher = await make_stream(hub)
    await add_consumer(hub)
    await asyncio.gather(*(publisher.publish(f"s.{n}", b"x") for n in range(MANY)))
    found: list[str] = []
    async with open_pull(hub, domain=HUB_DOMAIN, stream="S", consumer="c") as pull:
        while len(found) < MANY:
            messages = await pull.fetch(7)
            assert len(messages) <= 7
            for message in messages:
                await message.ack()
            found += [message.subject for message in messages]
        began_s = time.monotonic()
        assert await pull.fetch(7) == []
        assert time.monotonic() - began_s > PULL_S / 2
    assert found == [f"s.{n}" for n in range(MANY)]


async def test_a_consumer_that_is_gone_and_a_server_that_is_gone_are_errors(hub: Broker, hub_nats: NatsServer) -> None:
    await make_stream(hub)
    await add_consumer(hub)
    async with open_pull(hub, domain=HUB_DOMAIN, stream="S", consumer="c") as pull:
        assert await pull.fetch(5) == []
        fetching = asyncio.ensure_future(pull.fetch(5))
        await asyncio.sleep(0.2)
        await hub.js.delete_consumer("S", "c")
        with pytest.raises(APIError):
            await fetching
        with pytest.raises(ServiceUnavailableError):
            await pull.fetch(5)
        await hub_nats.kill()
        with pytest.raises((nats.errors.Error, ServiceUnavailableError)):
            await pull.fetch(5)
