"""Another policy for a pool: tried by a replay, applied here, and written as a CapacityPolicy for the operator."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import structlog

from halfdrop.contracts.errors import HalfdropError
from halfdrop.forecaster.service.planner import Planner, Pool
from halfdrop.forecaster.service.pools import BootSeconds, PoolTerms, Price, Share
from halfdrop.forecaster.what_if import Terms
from halfdrop.runtime.objects import ObjectStore

log = structlog.get_logger()

FOLDER = "capacity"
CONNECT_S = 1.0
"""A server that is there has answered by then: no complaint is made of one that was not asked yet."""


class Wishes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What shall be otherwise; what is left out stays."""

    late_share_target: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    price_per_hour: Price | None = None
    boot_min_s: BootSeconds | None = None
    boot_max_s: BootSeconds | None = None
    spot_share: Share | None = None
    replicas_min: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None
    replicas_max: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None

    def on(self, terms: PoolTerms) -> PoolTerms:
        """Return `terms` with the wishes. Raises InvalidInput where they contradict each other."""
        said = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        names = ("late_share_target", "replicas_min", "replicas_max")
        of_policy = {name: said.pop(name) for name in names if name in said}
        changed = msgspec.structs.replace(terms, policy=msgspec.structs.replace(terms.policy, **of_policy), **said)
        changed.check()
        return changed


class PolicyView(msgspec.Struct, frozen=True, kw_only=True):
    """A pool's terms, and the CapacityPolicy that says the same to the operator."""

    terms: PoolTerms
    yaml: str
    stored_at: str = ""
    """Path in the object store; empty: none is configured, and the terms are forgotten when the process ends."""


def replay_terms(terms: PoolTerms, *, boot_p95_s: float | None) -> Terms:
    """Return what a replay needs. boot_p95_s: as measured, if it was; the spread stays that of the terms."""
    low, high = terms.boots_s(boot_p95_s=boot_p95_s)
    return Terms(
        policy=terms.policy,
        boot_min_s=low,
        boot_max_s=high,
        price_per_hour=terms.price_per_hour,
        spot_share=terms.spot_share,
        spot_price_factor=terms.spot_price_factor,
        spot_interruptions_per_day=terms.spot_interruptions_per_day,
    )


def make_yaml(terms: PoolTerms, *, why: str = "") -> str:
    """Return the terms as a CapacityPolicy. Names and numbers alone: JSON's quoting is YAML's too."""
    policy = terms.policy
    objective = f"lateShare: {policy.late_share_target:g}"
    if policy.quantile is not None:
        objective = f"quantile: {policy.quantile:g}"
    elif not policy.is_margin_steered:
        objective = f"costs: {{idleReplicaMinute: {policy.idle_cost:g}, lateReplicaMinute: {policy.late_cost:g}}}"
    classes = f"  jobClasses: {json.dumps(list(terms.classes))}\n" if terms.classes else ""
    comment = f"# {' '.join(why.split())[:200]}\n" if why else ""
    return (
        f"# Written by the planner on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC for the pool {terms.key}.\n"
        f"{comment}"
        "apiVersion: halfdrop.dev/v1alpha1\n"
        "kind: CapacityPolicy\n"
        "metadata:\n"
        f"  name: {terms.region}-{terms.name}\n"
        "spec:\n"
        f"  pools: [{json.dumps(terms.name)}]\n"
        f"{classes}"
        f"  minReplicas: {policy.replicas_min}\n"
        f"  maxReplicas: {policy.replicas_max}\n"
        f"  objective: {{{objective}}}\n"
        f"  scaleDown: {{hysteresis: {policy.hysteresis:g}, cooldownSeconds: {policy.hold_minutes * 60}}}\n"
    )


class Policies:
    """Applies policies, and keeps them in the object store where there is one."""

    def __init__(self, planner: Planner, objects: ObjectStore | None) -> None:
        self._planner, self._objects = planner, objects

    def view(self, pool: Pool, *, terms: PoolTerms | None = None, why: str = "") -> PolicyView:
        terms = terms or pool.terms
        stored = terms_path(pool.terms.key) if self._objects else ""
        return PolicyView(terms=terms, yaml=make_yaml(terms, why=why), stored_at=stored)

    async def apply(self, pool: Pool, terms: PoolTerms, *, why: str = "") -> PolicyView:
        """Plan by other terms from now on; stored first, so that what was answered lasts. Raises Unavailable."""
        view = self.view(pool, terms=terms, why=why)
        if self._objects is not None:
            await self._objects.put(policy_path(terms.key), view.yaml.encode(), media_type="application/yaml")
            await self._objects.put(terms_path(terms.key), msgspec.json.encode(terms), media_type="application/json")
        self._planner.apply(pool, terms)
        log.info("policy_applied", pool=terms.key, late_share_target=terms.policy.late_share_target)
        return view

    async def load(self) -> dict[str, PoolTerms]:
        """Return the terms that were applied before, by the pool's key; what cannot be read is logged and left out."""
        found: dict[str, PoolTerms] = {}
        if self._objects is None:
            return found
        try:
            paths = await self._objects.list(f"{FOLDER}/terms")
            for path in paths:
                data = await self._objects.get(path)
                terms = msgspec.json.decode(data or b"", type=PoolTerms)
                terms.check()
                found[terms.key] = terms
        except (HalfdropError, msgspec.MsgspecError) as error:
            log.warning("policies_unreadable", error=str(error))
        return found


def policy_path(key: str) -> str:
    return f"{FOLDER}/policies/{key}.yaml"


def terms_path(key: str) -> str:
    return f"{FOLDER}/terms/{key}.json"


async def follow_calendar(planner: Planner, every_s: float) -> None:
    """Keep the planner's events those of the calendar, until cancelled."""
    await asyncio.sleep(CONNECT_S)
    while True:
        try:
            await planner.read_calendar()
        except HalfdropError as error:
            log.warning("calendar_unread", error=str(error))
        await asyncio.sleep(every_s)
