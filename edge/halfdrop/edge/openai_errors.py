"""Problems in OpenAI's shape, on the routes that speak its language: `{"error": {message, type, param, code}}`.

Its clients raise by status, and read `code` and `param` out of the envelope.
"""

import msgspec

OPENAI_PATHS = frozenset({"/v1/images/generations"})


class ApiError(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong. `param` is the member to blame."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """The envelope."""

    error: ApiError


_CODES = {
    "invalid-input": "invalid_value",
    "unauthorized": "invalid_api_key",
    "forbidden": "insufficient_permissions",
    "quota-exceeded": "rate_limit_exceeded",
    "overloaded": "rate_limit_exceeded",
}
"""Our codes in the words that OpenAI has for them; the others go out as they are, with underscores."""


def error_of(*, status: int, code: str, message: str, param: str | None) -> ErrorBody:
    """Return the error that says what a problem document with these says."""
    error = ApiError(message=message, type=_type_of(status), param=param, code=_CODES.get(code, code.replace("-", "_")))
    return ErrorBody(error=error)


def _type_of(status: int) -> str:
    if status >= 500:
        return "server_error"
    return "rate_limit_error" if status == 429 else "invalid_request_error"
