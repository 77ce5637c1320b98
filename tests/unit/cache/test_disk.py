"""The LMDB tier stays within its bytes, forgets the oldest first, and begins anew whatever is wrong with its file."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from halfdrop.cache.disk import LmdbTier, open_lmdb_tier
from halfdrop.cache.lmdb_file import ASIDE_FILE, BOOT_ID, DATA_FILE, OPEN_MARK
from halfdrop.contracts.errors import PermanentError, Unavailable

CAPACITY_BYTES = 2**20


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "lmdb"


async def fill(tier: LmdbTier, count: int, *, size: int = 30_000) -> None:
    for n in range(count):
        await tier.put(f"key{n}", bytes([n % 256]) * size)


async def kept(tier: LmdbTier, count: int) -> list[int]:
    return [n for n in range(count) if await tier.get(f"key{n}") is not None]


async def test_a_full_file_forgets_the_oldest_values_first_and_keeps_its_bound(directory: Path) -> None:
    tier = open_lmdb_tier(directory, capacity_bytes=CAPACITY_BYTES)
    for n in range(300):
        await tier.put(f"key{n}", bytes([n % 256]) * 30_000)
        assert tier.used_bytes <= CAPACITY_BYTES + 2 * 30_000
    present = await kept(tier, 300)
    assert present == list(range(300 - len(present), 300))
    assert len(present) >= 25
    await tier.aclose()


async def test_a_value_put_again_counts_as_new(directory: Path) -> None:
    tier = open_lmdb_tier(directory, capacity_bytes=CAPACITY_BYTES)
    await fill(tier, 20)
    await tier.put("key0", b"again")
    for n in range(20, 45):
        await tier.put(f"key{n}", bytes(30_000))
    assert await tier.get("key0") == b"again"
    assert await tier.get("key1") is None
    await tier.aclose()


async def test_values_of_all_sizes_in_a_tiny_file_are_right_or_missing(directory: Path) -> None:
    tier = open_lmdb_tier(directory, capacity_bytes=CAPACITY_BYTES)
    for n in range(2000):
        size = (n * 7919) % 120_000
        await tier.put(f"key{n % 97}", bytes([n % 256]) * size)
        assert await tier.get(f"key{n % 97}") == bytes([n % 256]) * size
        other = await tier.get(f"key{n * 31 % 97}")
        assert other is None or len(set(other)) <= 1
    assert (directory / DATA_FILE).stat().st_size < 12 * 2**20
    await tier.aclose()


async def test_a_value_too_large_for_the_file_is_not_kept_and_neither_is_the_one_before(directory: Path) -> None:
    tier = open_lmdb_tier(directory, capacity_bytes=CAPACITY_BYTES)
    await tier.put("key", b"small")
    await tier.put("key", bytes(CAPACITY_BYTES))
    assert await tier.get("key") is None
    await tier.aclose()


def overwrite(data: Path) -> None:
    data.write_bytes(os.urandom(100_000))


def cut(data: Path) -> None:
    os.truncate(data, data.stat().st_size // 2)


def replace_by_text(data: Path) -> None:
    data.write_text("not a database")


def names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


@pytest.mark.parametrize("damage", [overwrite, cut, replace_by_text])
async def test_a_damaged_or_foreign_file_is_set_aside_and_a_new_one_begun(
    directory: Path, damage: Callable[[Path], None]
) -> None:
    tier = open_lmdb_tier(directory, capacity_bytes=CAPACITY_BYTES)
    await fill(tier, 20)
    await tier.aclose()
    for _ in range(2):  # the second time over the file set aside the first time
        damage(directory / DATA_FILE)
        tier = open_lmdb_tier(directory, capacity_bytes=CAPACITY_BYTES)
        assert await kept(tier, 20) == []
        await fill(tier, 20)
        assert await kept(tier, 20) == list(range(20))
        await tier.aclose()
    assert names(directory) == [DATA_FILE, ASIDE_FILE, "lock.mdb"]


def damage_all_pages(data: Path) -> None:
    """Write over everything but the two meta pages, in place, so that a process that has it mapped sees it."""
    pages = data.stat().st_size // 4096
    with data.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(os.urandom((pages - 2) * 4096))


@pytest.mark.parametrize("is_open", [False, True])
async def test_damage_inside_a_file_gives_an_outage_or_a_miss_and_then_a_new_file(
    directory: Path, is_open: bool
) -> None:
    tier = open_lmdb_tier(directory, capacity_bytes=CAPACITY_BYTES)
    await fill(tier, 200, size=1000)
    if is_open:
        damage_all_pages(directory / DATA_FILE)
        with pytest.raises(Unavailable):
            await tier.get("key7")
    else:
        await tier.aclose()
        damage_all_pages(directory / DATA_FILE)
        tier = open_lmdb_tier(directory, capacity_bytes=CAPACITY_BYTES)
    assert await kept(tier, 200) == []
    await fill(tier, 200, size=1000)
    assert await kept(tier, 200) == list(range(200))
    await tier.aclose()
    assert ASIDE_FILE in names(directory)


async def test_after_a_crash_of_the_process_the_values_are_still_there(directory: Path) -> None:
    tier = open_lmdb_tier(directory, capacity_bytes=CAPACITY_BYTES)
    await fill(tier, 3)
    tier._file.close()  # as the end of a process does: neither synced nor marked so
    assert (directory / OPEN_MARK).exists()
    tier = open_lmdb_tier(directory, capacity_bytes=CAPACITY_BYTES)
    assert await kept(tier, 3) == ([0, 1, 2] if BOOT_ID.exists() else [])
    await tier.aclose()


async def test_after_a_crash_of_the_machine_the_file_is_set_aside(directory: Path) -> None:
    tier = open_lmdb_tier(directory, capacity_bytes=CAPACITY_BYTES)
    await fill(tier, 3)
    tier._file.close()
    (directory / OPEN_MARK).write_text("the boot before this one")
    tier = open_lmdb_tier(directory, capacity_bytes=CAPACITY_BYTES)
    assert await kept(tier, 3) == []
    assert (directory / ASIDE_FILE).exists()
    await tier.aclose()


def test_a_directory_that_cannot_be_used_is_refused_with_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PermanentError, match=r"cache directory .*file") as caught:
        open_lmdb_tier(tmp_path / "file")
    assert caught.value.code == "bad-cache-dir"


async def test_a_closed_tier_is_an_outage_not_a_miss(directory: Path) -> None:
    tier = open_lmdb_tier(directory, capacity_bytes=CAPACITY_BYTES)
    await tier.aclose()
    for call in (tier.get("key"), tier.put("key", b"data"), tier.delete("key")):
        with pytest.raises(Unavailable):
            await call


async def test_below_its_free_space_it_takes_nothing_in_answers_on_and_recovers_by_itself(directory: Path) -> None:
    now_s = 0.0
    disk = os.statvfs(directory.parent)
    free_bytes = disk.f_bavail * disk.f_frsize
    # Others use the same disk meanwhile: far from both bounds.
    tier = open_lmdb_tier(
        directory, capacity_bytes=CAPACITY_BYTES, free_min_bytes=free_bytes - 2**28, clock=lambda: now_s
    )
    await tier.put("old", b"old")
    hog = directory.parent / "hog"
    with hog.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 2**29)
    await tier.put("soon", b"soon")
    assert await tier.get("soon") == b"soon"  # the disk is not asked at each write
    now_s = 1.0
    await tier.put("new", b"new")
    await tier.put("old", b"replaced")  # never the value before the last one
    assert (await tier.get("new"), await tier.get("soon"), await tier.get("old")) == (None, b"soon", None)
    assert "MiB free" in tier.shortage
    assert tier.refused == 2
    hog.unlink()
    now_s = 2.0
    assert tier.shortage == ""
    await tier.put("new", b"new")
    assert await tier.get("new") == b"new"
    await tier.aclose()
