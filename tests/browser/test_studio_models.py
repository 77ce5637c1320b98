"""A user's model in the studio: chosen in the order panel once a pool tells of it, and ordered without its preview."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import expect
from tiny_checkpoints import sd_dir

from halfdrop.hub.checkpoints.importing import import_checkpoint
from halfdrop.models.store import ModelStore

__all__ = ["sd_dir"]

HUBS = 1
ENVIRON = {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module", autouse=True)
def imported(data_dir: Path, sd_dir: Path) -> None:
    """The checkpoint "mine" in the store of the module's system, before that starts."""
    torch.set_num_threads(1)
    store = ModelStore(data_dir / "models")
    with store.incoming() as room:
        import_checkpoint(sd_dir, room, name="mine", version="1", licence="ours", on_progress=lambda *_: None)
        store.adopt(room)


def test_an_imported_model_is_chosen_and_ordered(open_studio: Any) -> None:
    studio = open_studio("prompt=red+hearts+on+pink&seed=4001")
    page = studio.page
    expect(page.locator("#models")).to_be_visible(timeout=30_000)
    page.locator("#model").select_option(label="mine")
    expect(page.locator("#model-about")).to_contain_text("Drawn by mine on a hub")
    page.locator("#order-button").click()
    card = page.locator(".card").first
    expect(card).to_have_attribute("data-status", "succeeded", timeout=90_000)
    expect(card.locator(".card-state")).to_contain_text("256 px")
    expect(card.locator(".thumb")).to_have_attribute("style", re.compile("/p/"))
