"""What a worker tells of its pool."""

from hypothesis import given
from hypothesis import strategies as st

from halfdrop.contracts.pools import Lane, WorkerState, decode_state, encode_state
from halfdrop.contracts.subjects import hub_domain, worker_state
from halfdrop.contracts.work import WORK_MIN, work_of


def test_a_state_survives_the_wire() -> None:
    lane = Lane(job_class="bulk", tenant="acme", jobs=3, work=48.0)
    state = WorkerState(region="eu", worker="hub-1", at=1.0, models=("sha256:0f",), units_per_s=12.5, lanes=(lane,))
    assert decode_state(encode_state(state)) == state


def test_a_state_of_a_newer_release_still_decodes() -> None:
    state = WorkerState(region="eu", worker="hub-1", at=1.0)
    assert decode_state(encode_state(state).replace(b'"busy":0', b'"busy":0,"mood":"new"')) == state


def test_the_only_region_keeps_the_domain_that_it_always_had() -> None:
    assert hub_domain("local") == "hub"
    assert hub_domain("eu") == "hub-eu"
    assert worker_state("eu", "hub-1") == "pools.eu.hub-1"


@given(st.integers(64, 8192), st.integers(0, 50))
def test_more_pixels_and_more_steps_are_never_less_work(size_px: int, steps: int) -> None:
    work = work_of(size_px=size_px, steps=steps)
    assert work >= WORK_MIN
    assert work_of(size_px=size_px + 1, steps=steps) >= work
    assert work_of(size_px=size_px, steps=steps + 1) > work
