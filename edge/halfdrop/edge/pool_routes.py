"""HTTP: the pools that this edge hears of, and what a tenant has waiting in them."""

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, get

from halfdrop.contracts.jobs import JobClass
from halfdrop.contracts.pools import Lane, WorkerState
from halfdrop.edge.access import access_of, needs
from halfdrop.edge.pools import Pools
from halfdrop.edge.services import EdgeServices


class PoolWorker(msgspec.Struct, frozen=True, kw_only=True):
    """One worker, as it was heard last."""

    name: str
    slots: int
    busy: int
    classes: tuple[JobClass, ...]
    models: tuple[str, ...]
    size_max_px: int
    units_per_s: float
    heard_s_ago: float


class ClassLoad(msgspec.Struct, frozen=True, kw_only=True):
    """All lanes of a class together."""

    weight: float
    tenants: int
    jobs: int
    work: float


class PoolRegion(msgspec.Struct, frozen=True, kw_only=True):
    """A region's pool. Work is counted in megapixels of files; a step of sampling counts as two."""

    name: str
    is_draining: bool
    slots: int
    busy: int
    units_per_s: float
    workers: list[PoolWorker]
    classes: dict[str, ClassLoad]
    lanes: list[Lane]
    """Of the tenant who asks; with an admin's key, of all."""


class PoolList(msgspec.Struct, frozen=True, kw_only=True):
    """The pools that this edge hears of."""

    regions: list[PoolRegion]


@get("/v1/pools", guards=[needs("orders")])
async def list_pools(request: Request[Any, Any, Any], edge: EdgeServices) -> Response[bytes]:
    """Tell of each region: workers, slots, what waits."""
    access = access_of(request)
    tenant = None if access.may("admin") else access.tenant
    listed = PoolList(regions=[describe_region(edge.pools, name, tenant) for name in edge.pools.regions()])
    return Response(msgspec.json.encode(listed), media_type=MediaType.JSON, headers={"Cache-Control": "no-store"})


def describe_region(pools: Pools, region: str, tenant: str | None) -> PoolRegion:
    """Return what may be told of a region to `tenant`; to None, everything."""
    load = pools.load(region)
    classes = {}
    for name, weight in sorted(load.weights.items()):
        lanes = [lane for lane in load.lanes if lane.job_class == name]
        classes[str(name)] = ClassLoad(
            weight=weight,
            tenants=len(lanes),
            jobs=sum(lane.jobs for lane in lanes),
            work=round(sum(lane.work for lane in lanes), 2),
        )
    return PoolRegion(
        name=region,
        is_draining=pools.is_draining(region),
        slots=load.slots,
        busy=load.busy,
        units_per_s=round(_mean_speed([heard.state for heard in pools.workers(region)]), 3),
        workers=[
            PoolWorker(
                name=heard.state.worker,
                slots=heard.state.slots,
                busy=heard.state.busy,
                classes=heard.state.classes,
                models=heard.state.models,
                size_max_px=heard.state.size_max_px,
                units_per_s=heard.state.units_per_s,
                heard_s_ago=round(pools.age_s(heard), 1),
            )
            for heard in pools.workers(region)
        ],
        classes=classes,
        lanes=[lane for lane in load.lanes if tenant is None or lane.tenant == tenant],
    )


def _mean_speed(states: Sequence[WorkerState]) -> float:
    measured = [state for state in states if state.units_per_s > 0]
    slots = sum(state.slots for state in measured)
    return sum(state.units_per_s * state.slots for state in measured) / slots if slots else 0.0
