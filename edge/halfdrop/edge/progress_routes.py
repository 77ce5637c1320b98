"""HTTP: what an order looks like while it is sampled."""

from typing import Any

import msgspec
from litestar import Request, Response, get

from halfdrop.contracts.errors import NotFound
from halfdrop.edge.access import access_of, needs
from halfdrop.edge.services import EdgeServices

PICTURE_MAX_BYTES = 256 * 1024
"""A picture of 128 px has a few KB; what is larger is none."""


@get("/v1/predictions/{order_id:str}/progress/{name:str}", guards=[needs("orders")])
async def get_progress_picture(
    request: Request[Any, Any, Any], edge: EdgeServices, order_id: str, name: str
) -> Response[bytes]:
    """Send the newest picture of an order's sampling, under the address that `progress.picture` gave.

    A newer one may lie there already than the step in the address says: it is the same order, further on.
    """
    status = await edge.orders.find(order_id, access_of(request).tenant)
    picture = status.progress_picture
    is_one = name.removesuffix(".webp").isdecimal() and name.endswith(".webp") and len(name) <= 10
    if not is_one or picture is msgspec.UNSET or status.state.is_final:
        raise NotFound(f"prediction {order_id} has no picture of its progress called {name[:20]!r}")
    data = await edge.objects.get(picture.path)
    if data is None or len(data) > PICTURE_MAX_BYTES:
        raise NotFound(f"the picture of prediction {order_id} is no longer in the object store")
    return Response(data, media_type="image/webp", headers={"Cache-Control": "private, no-store"})
