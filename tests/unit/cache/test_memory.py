"""The memory tier holds its bound after every put and keeps what is popular when something scans through."""

from halfdrop.cache.memory import MemoryTier

VALUE = bytes(30_000)


async def test_the_bytes_held_never_exceed_the_capacity() -> None:
    tier = MemoryTier(1_000_000)
    for n in range(200):
        await tier.put(f"key{n}", VALUE)
        assert tier.used_bytes <= 1_000_000
    assert tier.used_bytes > 900_000


async def test_a_value_larger_than_the_whole_tier_is_not_kept_and_pushes_nothing_out() -> None:
    tier = MemoryTier(100_000)
    await tier.put("small", b"small")
    await tier.put("large", bytes(200_000))
    assert tier.peek("large") is None
    assert tier.peek("small") == b"small"


async def test_a_scan_of_things_read_once_does_not_push_out_what_is_read_often() -> None:
    tier = MemoryTier(1_000_000)
    popular = [f"popular{n}" for n in range(20)]
    for key in popular:
        await tier.put(key, VALUE)
    for n in range(1000):
        await tier.put(f"scan{n}", VALUE)
        tier.peek(popular[n % len(popular)])
    kept = sum(tier.peek(key) is not None for key in popular)
    assert kept >= 18, f"{kept} of 20"
