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


class TenantPreviews:
    """`Previews` of each tenant, over one previewer and one cache."""

    def __init__(self, *, bundle: Bundle, previewer: OnnxPreviewer, cache: TieredCache) -> None:
        self._bundle = bundle
        self._previewer = previewer
        self._cache = cache
        self._local = Previews(bundle=bundle, previewer=previewer, cache=cache)
        self._others: OrderedDict[str, Previews] = OrderedDict()

    @property
    def drawn(self) -> int:
        """Times that something was drawn since the start, for whomever."""
        return self._local.drawn

    @property
    def is_busy(self) -> bool:
        """True while pictures that must be made are answered small."""
        return self._previewer.is_busy

    def of(self, tenant: str) -> Previews:
        """Return the previews of `tenant`."""
        if tenant == LOCAL_TENANT:
            return self._local
        if tenant not in self._others:
            cache = TenantCache(self._cache, tenant)
            self._others[tenant] = Previews(bundle=self._bundle, previewer=self._previewer, cache=cache)
            if len(self._others) > TENANTS_MAX:
                self._others.popitem(last=False)
        self._others.move_to_end(tenant)
        return self._others[tenant]
