"""Names of span attributes, as OpenTelemetry's semantic conventions have them, in one place: they still move.

Those of HTTP and of errors are stable; those of messaging and of generated content are in development. A test looks all
of them up in the installed `opentelemetry-semantic-conventions`. Not among them, on purpose: `url.path` and `url.query`
(a path holds keys and ids, and whatever a stranger puts into it), prompts, tenants, user agents, addresses.
"""

ERROR_TYPE = "error.type"

HTTP_REQUEST_METHOD = "http.request.method"
HTTP_RESPONSE_STATUS_CODE = "http.response.status_code"
HTTP_ROUTE = "http.route"

MESSAGING_SYSTEM = "messaging.system"
MESSAGING_DESTINATION_NAME = "messaging.destination.name"
MESSAGING_OPERATION_NAME = "messaging.operation.name"
MESSAGING_OPERATION_TYPE = "messaging.operation.type"
MESSAGING_MESSAGE_ID = "messaging.message.id"

GEN_AI_OPERATION_NAME = "gen_ai.operation.name"
GEN_AI_OUTPUT_TYPE = "gen_ai.output.type"
GEN_AI_REQUEST_MODEL = "gen_ai.request.model"
GEN_AI_REQUEST_SEED = "gen_ai.request.seed"

FILE_NAME = "file.name"

DELIVERY_ATTEMPT = "halfdrop.delivery.attempt"
"""Ours: the conventions have no word for how often a message was delivered."""

OUTCOME = "halfdrop.outcome"
"""Ours: how a delivery of a job ended."""


Attributes = dict[str, str | int | float | bool]


def messaging(operation: str, kind: str, destination: str, message_id: str) -> Attributes:
    """Return the attributes of a span that sends, processes or settles a message on NATS.

    destination: the stream; a subject would be another name for each job.
    """
    return {
        MESSAGING_SYSTEM: "nats",
        MESSAGING_OPERATION_NAME: operation,
        MESSAGING_OPERATION_TYPE: kind,
        MESSAGING_DESTINATION_NAME: destination,
        MESSAGING_MESSAGE_ID: message_id,
    }


def generating(model: str, seed: int) -> Attributes:
    """Return the attributes of a span in which a model draws."""
    return {
        GEN_AI_OPERATION_NAME: "generate_content",
        GEN_AI_OUTPUT_TYPE: "image",
        GEN_AI_REQUEST_MODEL: model,
        GEN_AI_REQUEST_SEED: seed,
    }
