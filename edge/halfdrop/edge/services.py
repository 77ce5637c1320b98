"""What the HTTP handlers work with, opened once and handed over as one value."""

import msgspec
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from halfdrop.cache.tiered import TieredCache
from halfdrop.edge.access import Door
from halfdrop.edge.batch_book import Batches
from halfdrop.edge.batch_intake import BatchLimits
from halfdrop.edge.degradation import Degradation
from halfdrop.edge.demand import EdgeDemand
from halfdrop.edge.estimates import Estimates
from halfdrop.edge.hot_set import HotSet
from halfdrop.edge.idempotency import IdempotencyKeys
from halfdrop.edge.limits import RateLimits
from halfdrop.edge.listeners import Listeners
from halfdrop.edge.model_swap import ModelSwap
from halfdrop.edge.observing import Observer
from halfdrop.edge.orders import OrderBook
from halfdrop.edge.pools import Pools
from halfdrop.edge.regions import Regions
from halfdrop.edge.reuse import ReusePools
from halfdrop.edge.shelf import Shelf
from halfdrop.edge.tenants import TenantPreviews
from halfdrop.edge.webhooks.deliveries import Deliveries
from halfdrop.models.template_shelf import TemplateShelf
from halfdrop.runtime.broker import Broker
from halfdrop.runtime.objects import ObjectStore
from halfdrop.runtime.tracing import Tracing


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """The opened parts of an edge."""

    name: str
    previews: TenantPreviews
    models: ModelSwap | None
    """None where the model does not change while the edge runs."""

    cache: TieredCache
    door: Door
    limits: RateLimits
    reuse: ReusePools
    shelf: Shelf
    hot: HotSet
    orders: OrderBook
    batches: Batches
    batch_limits: BatchLimits
    pools: Pools
    estimates: Estimates
    idempotency: IdempotencyKeys
    webhooks: Deliveries
    listeners: Listeners
    regions: Regions
    broker: Broker
    objects: ObjectStore
    degradation: Degradation
    templates: TemplateShelf
    demand: EdgeDemand
    observer: Observer
    tracing: Tracing


EdgeServices = NamedDependency[SkipValidation[Services]]
"""How a handler asks for them."""
