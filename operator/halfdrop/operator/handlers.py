"""What kopf calls, and when. Each handler is one call of ours, its errors translated, its notices made Events."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import kopf

from halfdrop.contracts.errors import HalfdropError, InvalidInput, TransientError
from halfdrop.operator.governing import Policy, governs, read_policy
from halfdrop.operator.policy_status import publish_event, report_policy, withdraw_event
from halfdrop.operator.reconciling import Operator, reconcile_pool, release_pool
from halfdrop.operator.reporting import Notice
from halfdrop.operator.settings import OperatorSettings

GROUP = "halfdrop.dev"
VERSION = "v1alpha1"
REPORT_EVERY_S = 60.0
PERMANENT_RETRY_S = 30.0
"""What a person must mend is looked at again so often, for nobody tells when it is mended."""

FINALIZER = "halfdrop.dev/give-back"


def configure() -> kopf.OperatorSettings:
    """Return kopf's settings: rights in namespaces only, no peers, names of our own."""
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True  # it would ask for rights over the cluster, and retry for a minute without them
    settings.peering.standalone = True  # one instance: the Deployment's strategy is Recreate
    settings.posting.loggers = False
    settings.posting.reporting_component = "halfdrop-operator"
    settings.posting.event_name_prefix = "halfdrop-"
    settings.persistence.finalizer = FINALIZER
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="operator.halfdrop.dev")
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix="operator.halfdrop.dev")
    settings.networking.request_timeout = 15.0
    settings.watching.server_timeout = 300.0
    settings.process.ultimate_exiting_timeout = 25.0  # under Kubernetes' 30
    return settings


def register(operator: Operator, given: OperatorSettings) -> kopf.OperatorRegistry:
    """Return a registry of every handler, bound to `operator`."""
    registry = kopf.OperatorRegistry()
    _register_login(registry)
    _register_indices(registry)
    _register_pools(registry, operator, given)
    _register_policies(registry, operator, given)
    _register_events(registry, operator, given)
    return registry


def _register_login(registry: kopf.OperatorRegistry) -> None:
    @kopf.on.login(registry=registry)
    def login(**known: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**known) or kopf.login_with_kubeconfig(**known)


def _register_indices(registry: kopf.OperatorRegistry) -> None:
    """Both are filled before any other handler runs, so that a start never takes a pool for one without a policy."""

    @kopf.index(GROUP, VERSION, "capacitypolicies", registry=registry, id="policies")
    def policies(body: kopf.Body, **_: Any) -> dict[str, Policy | None]:
        try:
            return {body["metadata"]["namespace"]: read_policy(dict(body))}
        except InvalidInput:
            return {body["metadata"]["namespace"]: None}  # said in its status; its pools stay as they are

    @kopf.index(GROUP, VERSION, "gpupools", registry=registry, id="pools")
    def pools(body: kopf.Body, **_: Any) -> dict[str, dict[str, Any]]:
        return {body["metadata"]["namespace"]: dict(body)}


def _register_pools(registry: kopf.OperatorRegistry, operator: Operator, given: OperatorSettings) -> None:
    where: tuple[str, str, str] = (GROUP, VERSION, "gpupools")

    @kopf.timer(*where, interval=given.interval_s, backoff=given.retry_s, registry=registry, id="reconcile")
    async def reconcile(body: kopf.Body, **known: Any) -> None:
        await _reconcile(operator, dict(body), _indexed(known, "policies"), _indexed(known, "pools"))

    @kopf.on.update(*where, field="spec", backoff=given.retry_s, registry=registry, id="changed")
    async def changed(body: kopf.Body, **known: Any) -> None:
        await _reconcile(operator, dict(body), _indexed(known, "policies"), _indexed(known, "pools"))

    @kopf.on.delete(*where, backoff=given.retry_s, registry=registry, id="give-back")
    async def release(body: kopf.Body, **_: Any) -> None:
        with _as_kopf_errors(operator):
            _tell(body, await release_pool(operator, dict(body)))


def _register_policies(registry: kopf.OperatorRegistry, operator: Operator, given: OperatorSettings) -> None:
    where: tuple[str, str, str] = (GROUP, VERSION, "capacitypolicies")

    @kopf.on.create(*where, backoff=given.retry_s, registry=registry, id="made")
    @kopf.on.update(*where, field="spec", backoff=given.retry_s, registry=registry, id="changed")
    async def follow(body: kopf.Body, **known: Any) -> None:
        pools = _indexed(known, "pools")
        for pool in _touched(operator, dict(body), pools):
            await _reconcile(operator, pool, _indexed(known, "policies"), pools)
        with _as_kopf_errors(operator):
            _tell(body, await report_policy(operator, dict(body)))

    @kopf.timer(*where, interval=REPORT_EVERY_S, backoff=given.retry_s, registry=registry, id="report")
    async def report(body: kopf.Body, **_: Any) -> None:
        with _as_kopf_errors(operator):
            _tell(body, await report_policy(operator, dict(body)))

    @kopf.on.delete(*where, backoff=given.retry_s, registry=registry, id="give-back")
    async def release(body: kopf.Body, **known: Any) -> None:
        rest = [one for one in _indexed(known, "policies") if one is None or one.name != body["metadata"]["name"]]
        pools = _indexed(known, "pools")
        for pool in _touched(operator, dict(body), pools):
            await _reconcile(operator, pool, rest, pools)


def _register_events(registry: kopf.OperatorRegistry, operator: Operator, given: OperatorSettings) -> None:
    where: tuple[str, str, str] = (GROUP, VERSION, "demandevents")

    @kopf.on.create(*where, backoff=given.retry_s, registry=registry, id="made")
    @kopf.on.resume(*where, backoff=given.retry_s, registry=registry, id="resumed")
    @kopf.on.update(*where, field="spec", backoff=given.retry_s, registry=registry, id="changed")
    async def publish(body: kopf.Body, **_: Any) -> None:
        with _as_kopf_errors(operator):
            _tell(body, await publish_event(operator, dict(body)))

    @kopf.on.delete(*where, backoff=given.retry_s, registry=registry, id="withdraw")
    async def withdraw(body: kopf.Body, **_: Any) -> None:
        with _as_kopf_errors(operator):
            await withdraw_event(operator, dict(body))


def _indexed(known: Mapping[str, Any], index: str) -> list[Any]:
    """Return what an index holds for the namespace of the object that is handled."""
    return list(known[index].get(known["namespace"], ()))


async def _reconcile(
    operator: Operator, pool: dict[str, Any], policies: Sequence[Policy | None], pools: Sequence[dict[str, Any]]
) -> None:
    if "deletionTimestamp" in pool["metadata"]:
        return  # its own handler gives back what it raised
    sound = [policy for policy in policies if policy is not None]
    with _as_kopf_errors(operator):
        is_broken = len(sound) < len(policies)
        _tell(pool, await reconcile_pool(operator, pool, sound, pools=pools, has_broken_policy=is_broken))


def _touched(operator: Operator, policy: dict[str, Any], pools: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the pools that a policy governs, or did until now."""
    namespace, name = policy["metadata"]["namespace"], policy["metadata"]["name"]
    try:
        read: Policy | None = read_policy(policy)
    except InvalidInput:
        read = None

    def is_touched(pool: dict[str, Any]) -> bool:
        meta = pool["metadata"]
        record = operator.records.get((namespace, meta["name"]))
        did = record is not None and record.policy == name
        return did or (read is not None and governs(read, name=meta["name"], labels=dict(meta.get("labels") or {})))

    return [dict(pool) for pool in pools if is_touched(pool)]


def _tell(body: Any, notices: Sequence[Notice]) -> None:
    for notice in notices:
        kopf.event(body, type=notice.type, reason=notice.reason, message=notice.message)


@contextmanager
def _as_kopf_errors(operator: Operator) -> Iterator[None]:
    """The one table from our errors to kopf's. None ends a timer: what is wrong today may be mended tomorrow."""
    try:
        yield
    except TransientError as error:
        operator.tally.reconciles["error",] += 1
        raise kopf.TemporaryError(str(error), delay=max(1.0, error.retry_after_s)) from error
    except HalfdropError as error:
        operator.tally.reconciles["error",] += 1
        raise kopf.TemporaryError(str(error), delay=PERMANENT_RETRY_S) from error
