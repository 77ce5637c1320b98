"""The pools that are planned: which demand each serves, what it costs, how it boots, and what its owner wants.

From a TOML file, a `[[pool]]` for each; without one, each region is one pool that serves everything, with a price that
is assumed and marked so.
"""

from pathlib import Path
from typing import Annotated

import msgspec

from halfdrop.contracts.errors import InvalidInput
from halfdrop.forecaster.plan import PlanPolicy
from halfdrop.forecaster.queue_simulator import PoolRules
from halfdrop.forecaster.service.series import Choice

POOLS_MAX = 256
EVERYTHING = "all"
"""Name of a region's only pool: what a GPUPool writes into `plan` to follow it."""

NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z"
"""As Kubernetes names things: it becomes a part of a key and of a policy's name."""

HOURS_PER_DAY = 24

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Price = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
BootSeconds = Annotated[int, msgspec.Meta(ge=1, le=7200)]


class PoolTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One pool as its owner describes it."""

    region: Annotated[str, msgspec.Meta(pattern=NAME)]
    name: Annotated[str, msgspec.Meta(pattern=NAME)] = EVERYTHING
    classes: tuple[str, ...] = ()
    """Classes of jobs that it serves; empty: all."""

    models: tuple[str, ...] = ()
    """Models that it serves; empty: all."""

    price_per_hour: Price = 2.0
    """Of one GPU for an hour, on demand."""

    currency: Annotated[str, msgspec.Meta(max_length=8)] = "$"
    spot_share: Share = 0.0
    """Share of its GPUs that are spot instances."""

    spot_price_factor: Share = 0.4
    """What a spot GPU costs, of the price on demand."""

    spot_interruptions_per_day: Annotated[float, msgspec.Meta(ge=0, le=100)] = 1.0
    """How often in a day one spot GPU is taken away."""

    boot_min_s: BootSeconds = 240
    boot_max_s: BootSeconds = 480
    """How long its GPUs boot, until that is measured."""

    mean_service_s: Annotated[float, msgspec.Meta(ge=1, le=3600)] = 20.0
    """GPU-seconds of a job, where the history counts no requests."""

    policy: PlanPolicy = PlanPolicy()

    @property
    def choice(self) -> Choice:
        return Choice(regions=(self.region,), classes=self.classes, models=self.models)

    @property
    def key(self) -> str:
        return f"{self.region}.{self.name}"

    @property
    def mixed_price(self) -> float:
        """Of a GPU-hour, spot and on demand together."""
        return self.price_per_hour * (1 - self.spot_share * (1 - self.spot_price_factor))

    def boots_s(self, *, boot_p95_s: float | None) -> tuple[int, int]:
        """Return the shortest and longest boot. boot_p95_s: as measured, if it was; the spread stays as described."""
        low, high = self.boot_min_s, self.boot_max_s
        if boot_p95_s is None:
            return low, high
        factor = boot_p95_s / (low + 0.95 * (high - low))
        return max(1, min(7200, round(low * factor))), max(1, min(7200, round(high * factor)))

    def rules(self, *, boot_p95_s: float | None = None) -> PoolRules:
        """Return the simulator's rules for this pool."""
        low, high = self.boots_s(boot_p95_s=boot_p95_s)
        return PoolRules(
            boot_min_s=low,
            boot_max_s=high,
            replicas_min=self.policy.replicas_min,
            replicas_max=self.policy.replicas_max,
        )

    def check(self) -> None:
        """Raise InvalidInput where the terms contradict themselves."""
        self.policy.check()
        if self.boot_max_s < self.boot_min_s:
            raise InvalidInput("boot_max_s", got=self.boot_max_s, allowed=f"at least boot_min_s, {self.boot_min_s}")


class PoolsFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file: `[[pool]]` for each."""

    pool: Annotated[tuple[PoolTerms, ...], msgspec.Meta(min_length=1, max_length=POOLS_MAX)]


def read_pools(path: Path) -> dict[str, PoolTerms]:
    """Return the pools of the file by their key. Raises InvalidInput, which names what is wrong."""
    try:
        pools = msgspec.toml.decode(path.read_bytes(), type=PoolsFile).pool
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise InvalidInput("HALFDROP_PLANNER_POOLS", got=str(path), allowed=f"TOML of pools: {error}") from error
    for terms in pools:
        terms.check()
    found = {terms.key: terms for terms in pools}
    if len(found) < len(pools):
        raise InvalidInput("pool", got="two of one region and name", allowed="each once")
    return found
