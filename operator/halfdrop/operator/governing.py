"""Which policy governs a pool, and the values that are written into both. Pure, but for the words of its errors."""

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from halfdrop.contracts.errors import InvalidInput
from halfdrop.operator.cluster import Object
from halfdrop.operator.policies import CapacityPolicySpec
from halfdrop.operator.schedules import check_time_zones

T = TypeVar("T", bound=msgspec.Struct)


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """A CapacityPolicy as it is in the cluster."""

    name: str
    created_at: str
    spec: CapacityPolicySpec
    is_deleted: bool = False


def read_policy(body: Object) -> Policy:
    """Return the policy in an object. Raises InvalidInput for what only we can check, such as a time zone."""
    meta = body["metadata"]
    spec = read_spec(body, CapacityPolicySpec)
    check_time_zones(spec.schedules)
    return Policy(
        name=meta["name"],
        created_at=meta.get("creationTimestamp", ""),
        spec=spec,
        is_deleted="deletionTimestamp" in meta,
    )


def read_spec(body: Object, kind: type[T]) -> T:
    """Return the spec of an object. Raises InvalidInput where the CRD in the cluster is another than ours."""
    try:
        return msgspec.convert(dict(body.get("spec", {})), kind)
    except msgspec.ValidationError as error:
        allowed = f"{error}; apply the CRDs of this release"
        raise InvalidInput("spec", got=body["metadata"]["name"], allowed=allowed) from error


def governs(policy: Policy, *, name: str, labels: dict[str, str]) -> bool:
    """True if the policy names or selects the pool."""
    selector = policy.spec.pool_selector
    selected = selector is not None and bool(selector.match_labels) and selector.match_labels.items() <= labels.items()
    return name in policy.spec.pools or selected


def governing_policy(policies: Iterable[Policy], *, name: str, labels: dict[str, str]) -> Policy | None:
    """Return the oldest policy that governs the pool, of those that are not being deleted."""
    found = [policy for policy in policies if not policy.is_deleted and governs(policy, name=name, labels=labels)]
    return min(found, key=lambda policy: (policy.created_at, policy.name), default=None)
