"""What the operator can be told, each setting with its unit and the reason for its default."""

from typing import Annotated

from msgspec import Meta, Struct

from halfdrop.contracts.subjects import HUB_DOMAIN

PREFIX = "HALFDROP_OPERATOR_"

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class OperatorSettings(Struct, frozen=True, kw_only=True):
    """Settings of the operator, read once from the environment: HALFDROP_OPERATOR_NAMESPACES and so on.

    Which cluster, KUBECONFIG says, or the service account of the pod that it runs in.
    """

    namespaces: Annotated[str, Meta(pattern=r"^[a-z0-9-]+(,[a-z0-9-]+)*$")]
    """Namespaces whose objects it acts on, comma-separated; no default, for its rights end there."""

    name: Name = "operator"
    """Its name in logs and at the NATS server."""

    nats_url: str = ""
    """The hub's NATS server, for plans, queues and campaigns; empty: none, and pools follow minimum and schedules."""

    nats_domain: str = HUB_DOMAIN
    """JetStream domain of that server."""

    interval_s: Annotated[float, Meta(ge=0.1, le=600)] = 15.0
    """Seconds between two looks at a pool: a quarter of a plan's step, and what the simulations decided at."""

    retry_s: Annotated[float, Meta(ge=0.1, le=600)] = 5.0
    """Seconds until a look that failed is tried again."""

    health_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """TCP port of GET /healthz, which answers while the event loop turns; 0: none."""

    health_host: str = "127.0.0.1"
    """Address of that port; a kubelet asks from outside the pod, so in a pod it is 0.0.0.0."""

    metrics_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """TCP port where Prometheus finds /metrics; 0: none."""

    metrics_host: str = "127.0.0.1"
    """Address of that port. It asks for no key."""
