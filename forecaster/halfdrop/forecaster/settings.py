"""Settings of the forecaster process: HALFDROP_FORECASTER_<NAME> in the environment, read once."""

from typing import Annotated

import msgspec
from msgspec import Meta

from halfdrop.contracts.errors import InvalidInput

PREFIX = "HALFDROP_FORECASTER_"
_HUB = "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?=[a-z]+://[^,]+"


class ForecasterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the forecaster process is told."""

    hubs: Annotated[str, Meta(pattern=rf"^{_HUB}(,{_HUB}){{0,15}}\Z")] = "local=nats://127.0.0.1:4222"
    """NATS server of each region's hub, home first: "eu=nats://10.0.0.1:4222,us=nats://10.1.0.1:4222". The calendar of
    events lies at home."""

    objects_url: str
    """The object store of the demand history: file:///directory or s3://bucket/prefix. No default: a wrong guess would
    look like lost history."""

    compact_every_s: Annotated[float, Meta(ge=0.1, le=3600)] = 20.0
    """Seconds between two looks at what was told of demand. Members tell once a minute, so the history is at most this
    and a minute old; each look that finds something writes a file of a few KB, and 24 of them become one."""

    metrics_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """TCP port where Prometheus finds /metrics; 0: none."""

    metrics_host: str = "127.0.0.1"
    """Address of that port. It asks for no key."""

    @property
    def hub_urls(self) -> dict[str, str]:
        """URL of each region's hub, home first. Raises InvalidInput if a region is named twice."""
        pairs = [pair.partition("=") for pair in self.hubs.split(",")]
        urls = {region: url for region, _, url in pairs}
        if len(urls) < len(pairs):
            raise InvalidInput(f"{PREFIX}HUBS", got=self.hubs, allowed="each region once")
        return urls
