"""The index of prints: another tenant's near-copy is found, one's own is not, and buckets stay bounded."""

import numpy as np
import pytest
from numpy.typing import NDArray

from halfdrop.hub.gates import copy_index
from halfdrop.hub.gates.copies import PRINT_PX
from halfdrop.hub.gates.copy_index import CopyIndex
from halfdrop.runtime.objects import open_objects

Print = NDArray[np.uint8]


def draw(seed: int) -> Print:
    """A print with a few random waves."""
    random = np.random.default_rng(seed)
    waves = np.zeros((PRINT_PX, PRINT_PX), np.complex128)
    waves[:7, :7] = random.normal(size=(7, 7)) + 1j * random.normal(size=(7, 7))
    picture = np.fft.ifft2(waves).real
    return np.clip(128 + 50 * picture / picture.std(), 0, 255).astype(np.uint8)


async def test_another_tenants_copy_is_found_wherever_it_begins_and_ones_own_is_none() -> None:
    index = CopyIndex(open_objects("memory://"))
    mine = draw(1)
    assert await index.distance(mine, tenant="a") == 1.0
    await index.remember(mine, tenant="a", pattern_key="1" * 32)
    await index.remember(draw(2), tenant="b", pattern_key="2" * 32)
    assert await index.distance(mine, tenant="a") == 1.0
    assert await index.distance(np.roll(mine, (5, 9), axis=(0, 1)), tenant="b") < 0.02
    assert await index.distance(draw(3), tenant="a") > 0.2


async def test_remembering_again_changes_nothing_and_a_full_bucket_takes_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objects = open_objects("memory://")
    index = CopyIndex(objects)
    for _ in range(2):
        await index.remember(draw(1), tenant="a", pattern_key="1" * 32)
    assert len(await objects.list(copy_index.FOLDER)) == copy_index.BANDS
    monkeypatch.setattr(copy_index, "BUCKET_MAX", 1)
    await index.remember(draw(1), tenant="b", pattern_key="2" * 32)
    assert len(await objects.list(copy_index.FOLDER)) == copy_index.BANDS


async def test_neither_tenants_nor_prompts_stand_in_the_names_of_objects() -> None:
    objects = open_objects("memory://")
    await CopyIndex(objects).remember(draw(1), tenant="secret-mill", pattern_key="1" * 32)
    assert not [path for path in await objects.list(copy_index.FOLDER) if "secret" in path]
