"""One line of a batch: what a client writes, how it is checked, how it is kept until it is placed."""

import re
from typing import NamedTuple

import msgspec

from halfdrop.contracts.errors import InvalidInput, PermanentError
from halfdrop.contracts.jobs import Webhook, WebhookEvent
from halfdrop.edge.order_terms import read_webhook
from halfdrop.edge.previews import Pattern, Previews
from halfdrop.edge.requests import BODY_MAX_BYTES, PredictionInput, decode_body
from halfdrop.edge.template_orders import Fitted, fit_order, within_input
from halfdrop.edge.webhooks.addresses import AddressPolicy
from halfdrop.models.template_shelf import TemplateShelf

LINE_MAX_BYTES = BODY_MAX_BYTES
"""As much as the body of a single order."""

CUSTOM_ID_PATTERN = r"^(?!line-[0-9]+$)[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""It names a folder of the zip. `line-7` is the name of the seventh line where that has none of its own."""

_CUSTOM_ID = re.compile(CUSTOM_ID_PATTERN.removesuffix("$") + r"\Z")


class LineRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of POST /v1/batches."""

    input: PredictionInput
    custom_id: str | None = None
    """Your name for it, unique in the batch: 1 to 64 letters, digits, dots, dashes and underscores."""

    version: str | None = None
    """The model, as an alternative to `input.model`."""

    webhook: str | msgspec.UnsetType | None = msgspec.UNSET
    """As in a single order: told of this line's course."""

    webhook_events_filter: tuple[WebhookEvent, ...] | msgspec.UnsetType | None = msgspec.UNSET


class BatchLine(msgspec.Struct, frozen=True, kw_only=True, tag="line.v1"):
    """A line that was accepted, as it lies in the object store."""

    line: int
    """Its number in what the client sent, from 1."""

    custom_id: str | None = None
    input: PredictionInput
    version: str | None = None
    webhook: Webhook | msgspec.UnsetType = msgspec.UNSET

    @property
    def name(self) -> str:
        """What it is called where it must have a name."""
        return self.custom_id or f"line-{self.line}"


class LineRules(NamedTuple):
    """What a line is checked against: the tenant's model, and where this edge delivers webhooks to."""

    previews: Previews
    policy: AddressPolicy
    edge_url: str
    """Scheme and host of this edge as the client wrote them."""

    templates: TemplateShelf


class LineError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a line was refused: what was got, what is allowed."""

    line: int
    detail: str
    code: str
    custom_id: str | None = None
    field: str | None = None
    got: str | None = None
    allowed: str | None = None


def check_line(number: int, data: bytes, rules: LineRules, taken: set[str]) -> BatchLine:
    """Return the line in `data`, and note its name among those taken. Raises PermanentError for what is wrong."""
    request = decode_body(data, LineRequest)
    if request.custom_id is not None:
        if not _CUSTOM_ID.match(request.custom_id):
            allowed = "1 to 64 letters, digits, '.', '-' and '_', a letter or digit first; not line-N"
            raise InvalidInput("custom_id", got=request.custom_id, allowed=allowed)
        if request.custom_id in taken:
            raise InvalidInput("custom_id", got=request.custom_id, allowed="one that no line before has")
    line = BatchLine(
        line=number,
        custom_id=request.custom_id,
        input=request.input,
        version=request.version,
        webhook=read_webhook(request.webhook, request.webhook_events_filter, rules.policy, rules.edge_url),
    )
    understand_line(rules.previews, rules.templates, line)
    if line.custom_id is not None:
        taken.add(line.custom_id)
    return line


def understand_line(previews: Previews, templates: TemplateShelf, line: BatchLine) -> tuple[Pattern, Fitted]:
    """Return the pattern that a line means, and what is to be made of it. Raises InvalidInput."""
    if line.version is not None:
        previews.check_model("version", line.version)
    with within_input():
        order = fit_order(templates, line.input)
        return previews.understand(order.input), order


def refuse_line(number: int, error: PermanentError) -> LineError:
    """Return what to tell of a line that `check_line` refused."""
    if isinstance(error, InvalidInput):
        return LineError(
            line=number, detail=error.detail, code=error.code, field=error.field, got=error.got, allowed=error.allowed
        )
    return LineError(line=number, detail=error.detail, code=error.code)
