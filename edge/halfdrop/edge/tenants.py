"""Previews by tenant: the same drawing, with every cache key and object path below the tenant's name.

The local tenant's stand where they always stood, so that who begins with an open edge and later makes keys for the
tenant "local" keeps everything.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable

from halfdrop.cache.guard import Absence
from halfdrop.cache.tiered import Found, TieredCache
from halfdrop.edge.access import LOCAL_TENANT
from halfdrop.edge.names import tenant_key
from halfdrop.edge.previewer import OnnxPreviewer
from halfdrop.edge.previews import Previews
from halfdrop.models.bundle import Bundle

TENANTS_MAX = 1024
"""Tenants kept ready; the one longest unused is made anew when it comes back, which costs microseconds."""


class TenantCache:
    """One tenant's part of the cache."""

    def __init__(self, cache: TieredCache, tenant: str) -> None:
        self._cache = cache
        self._tenant = tenant

    async def get(self, key: str) -> Found | None:
        return await self._cache.get(tenant_key(self._tenant, key))

    async def look(self, key: str) -> Found | Absence:
        return await self._cache.look(tenant_key(self._tenant, key))

    async def get_or_fill(self, key: str, fill: Callable[[], Awaitable[bytes]]) -> Found:
        return await self._cache.get_or_fill(tenant_key(self._tenant, key), fill)

    async def keep(self, key: str, data: bytes) -> bool:
        return await self._cache.keep(tenant_key(self._tenant, key), data)


class _Serving:
    """One model and the previews that are made with it."""

    def __init__(self, bundle: Bundle, previewer: OnnxPreviewer, cache: TieredCache) -> None:
        self.bundle = bundle
        self.previewer = previewer
        self.local = Previews(bundle=bundle, previewer=previewer, cache=cache)
        self.others: OrderedDict[str, Previews] = OrderedDict()


class TenantPreviews:
    """`Previews` of each tenant, over one model at a time and one cache.

    A request asks `of` once and keeps what it got: so it ends with the model that it began with, and a model that was
    replaced is freed when the last such request has ended.
    """

    def __init__(self, *, bundle: Bundle, previewer: OnnxPreviewer, cache: TieredCache) -> None:
        self._cache = cache
        self._queue = previewer.queue
        self._serving = _Serving(bundle, previewer, cache)

    @property
    def bundle(self) -> Bundle:
        """What previews are made with from now on."""
        return self._serving.bundle

    @property
    def previewer(self) -> OnnxPreviewer:
        return self._serving.previewer

    @property
    def drawn(self) -> int:
        """Times that something was drawn since the start, for whomever."""
        return self._queue.drawn

    def swap(self, bundle: Bundle, previewer: OnnxPreviewer) -> None:
        """Make previews with another model from now on."""
        self._serving = _Serving(bundle, previewer, self._cache)

    @property
    def is_busy(self) -> bool:
        """True while pictures that must be made are answered small."""
        return self._queue.is_busy

    def of(self, tenant: str) -> Previews:
        """Return the previews of `tenant`."""
        serving = self._serving
        if tenant == LOCAL_TENANT:
            return serving.local
        if tenant not in serving.others:
            cache = TenantCache(self._cache, tenant)
            serving.others[tenant] = Previews(bundle=serving.bundle, previewer=serving.previewer, cache=cache)
            if len(serving.others) > TENANTS_MAX:
                serving.others.popitem(last=False)
        serving.others.move_to_end(tenant)
        return serving.others[tenant]
