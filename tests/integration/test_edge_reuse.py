"""Reuse by a live edge, as its clients see it: the answer says how its pattern was found."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.integration.conftest import LiveEdge


async def ask(edge: "LiveEdge", prompt: str, **members: object) -> tuple[dict[str, Any], str]:
    """Return the answer as JSON, and its Cache-Status."""
    body = {"prompt": prompt, **members}
    response = await edge.client.post("/v1/previews", json=body, headers={"Accept": "application/json"})
    assert response.status_code == 200, response.text
    return response.json(), response.headers["cache-status"]


async def test_an_answer_names_its_kind_of_reuse(edge: "LiveEdge") -> None:
    made, status = await ask(edge, "red dots on white", seed=7)
    assert (made["reuse"], status) == ("none", "halfdrop; fwd=miss; stored")
    again, status = await ask(edge, "red dots on white", seed=7, reuse="near")
    assert (again["reuse"], again["key"], status) == ("exact", made["key"], "halfdrop; hit; detail=memory")
    variant, status = await ask(edge, "red dots on white", reuse="variant")
    assert (variant["reuse"], variant["key"], status) == ("variant", made["key"], "halfdrop; hit; detail=variant")
    assert variant["spec"]["seed"] == 7
    near, status = await ask(edge, "white background with scarlet spots", reuse="near")
    assert (near["reuse"], near["key"], status) == ("near", made["key"], "halfdrop; hit; detail=near")
    assert near["spec"]["prompt"] == "red dots on white"
    larger, status = await ask(edge, "white background with scarlet spots", reuse="near", size_px=512)
    assert (larger["reuse"], status) == ("near", "halfdrop; fwd=miss; stored; detail=near")
    assert near["url"].startswith(f"/p/{made['key']}.webp")


async def test_nothing_but_the_exact_pattern_is_reused_unasked_or_for_another_meaning(edge: "LiveEdge") -> None:
    made, _ = await ask(edge, "red dots on white", seed=7)
    for prompt, members in (
        ("red dots on white", {}),
        ("white background with scarlet spots", {"seed": 7, "reuse": "variant"}),
        ("white background with scarlet spots", {"seed": 8, "reuse": "near"}),
        ("white dots on red", {"reuse": "near"}),
        ("red dots on white, half-drop", {"reuse": "near"}),
        ("red dots on white, no outline", {"reuse": "near"}),
    ):
        found, status = await ask(edge, prompt, **members)
        assert (found["reuse"], status) == ("none", "halfdrop; fwd=miss; stored"), (prompt, members)
        assert found["key"] != made["key"]


async def test_the_exact_pattern_goes_before_a_near_one(edge: "LiveEdge") -> None:
    await ask(edge, "red dots on white", seed=7)
    own, _ = await ask(edge, "scarlet spots on white", seed=7)
    found, _ = await ask(edge, "scarlet spots on white", seed=7, reuse="near")
    assert (found["reuse"], found["key"]) == ("exact", own["key"])


async def test_an_unknown_kind_of_reuse_is_refused(edge: "LiveEdge") -> None:
    response = await edge.client.post("/v1/previews", json={"prompt": "red dots", "reuse": "any"})
    assert response.status_code == 422
    assert response.json()["field"] == "reuse"
    assert "near" in response.json()["allowed"]
