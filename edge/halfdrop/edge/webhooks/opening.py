"""Opens the webhooks of an edge from its other parts."""

import time

import msgspec

from halfdrop.contracts.jobs import JobStatus
from halfdrop.edge.access import Door
from halfdrop.edge.estimates import Estimates
from halfdrop.edge.predictions import Prediction, make_prediction, sign_files
from halfdrop.edge.regions import Regions
from halfdrop.edge.settings import EdgeSettings
from halfdrop.edge.tenants import TenantPreviews
from halfdrop.edge.webhooks.addresses import AddressPolicy
from halfdrop.edge.webhooks.bodies import Describe
from halfdrop.edge.webhooks.dead import DeadDeliveries
from halfdrop.edge.webhooks.deliveries import Deliveries
from halfdrop.edge.webhooks.disabled import open_disabled
from halfdrop.edge.webhooks.secrets import SecretBook
from halfdrop.edge.webhooks.sender import Sender
from halfdrop.edge.webhooks.store import open_streams
from halfdrop.runtime.broker import Broker
from halfdrop.runtime.objects import ObjectStore


def choose_policy(settings: EdgeSettings, *, is_open: bool) -> AddressPolicy:
    """Return where this edge delivers to. Loopback only where whoever orders is on this machine already: behind a proxy
    on the same machine an edge asks for keys, and its tenants must not reach what else listens there."""
    return AddressPolicy(
        is_private_allowed=settings.webhook_private,
        is_loopback_allowed=is_open,
        is_http_allowed=settings.webhook_http,
    )


async def open_webhooks(
    broker: Broker, objects: ObjectStore, *, policy: AddressPolicy, describe: Describe
) -> Deliveries:
    """Return the webhooks with what earlier runs left. Raises Unavailable if the edge's NATS does not answer."""
    waiting, dead = await open_streams(broker.js)
    deliveries = Deliveries(
        waiting=waiting,
        dead=DeadDeliveries(dead),
        disabled=await open_disabled(broker.js),
        secrets=SecretBook(objects),
        sender=Sender(policy),
        policy=policy,
        describe=describe,
    )
    await deliveries.load()
    return deliveries


def make_describe(
    settings: EdgeSettings, *, previews: TenantPreviews, estimates: Estimates, regions: Regions, door: Door
) -> Describe:
    """Return what turns a status into the prediction that a GET would answer its tenant."""
    fallback = f"http://{settings.host}:{settings.port}"

    def describe(status: JobStatus) -> Prediction:
        webhook = status.webhook
        address = webhook.edge_url if webhook is not msgspec.UNSET and webhook.edge_url is not msgspec.UNSET else ""
        away_since = regions.away_since(status)
        estimate = estimates.estimate(status, hub_away=away_since is not None)
        prediction = make_prediction(
            status,
            model=previews.bundle.name,
            base_url=address or fallback,
            queue_position=estimate.queue_position,
            now=time.time(),
            estimate=estimate,
            hub_away_since=away_since,
            why_waiting=regions.why_waiting(status),
        )
        return sign_files(prediction, lambda url: door.sign(url, status.tenant))

    return describe
