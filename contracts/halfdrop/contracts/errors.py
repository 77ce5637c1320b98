"""The error tree. Every error answers two questions: would a retry help, and whose fault is it?

HalfdropError
├── TransientError          a retry helps; carries how long to wait
│   ├── Overloaded          this process has too much to do right now
│   └── Unavailable         something behind this process is away
└── PermanentError          a retry does not help; carries a stable code
    ├── InvalidInput        the caller's fault: names the field, what was got and what is allowed
    └── NotFound            no such thing, or not yours

Adapters translate a library's errors into these where they are raised; the exits (HTTP problem at the edge,
nak or term at the hub, kopf's errors at the operator) translate them back, in one table each.
"""

GOT_MAX_CHARS = 80
"""Echo at most this much of a bad value: enough to recognise it, too little to flood a log or a response."""


class HalfdropError(Exception):
    """Root of every error that Halfdrop raises on purpose."""


class TransientError(HalfdropError):
    """Something that may work if tried again after `retry_after_s` seconds."""

    def __init__(self, detail: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s


class Overloaded(TransientError):
    """A bounded queue in this process is full."""


class Unavailable(TransientError):
    """A server that this process needs did not answer."""


class PermanentError(HalfdropError):
    """Something that fails again however often it is tried. `code` is stable, lower-case and hyphenated."""

    def __init__(self, detail: str, *, code: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code


class InvalidInput(PermanentError):
    """A value that the caller must change. The message says the field, what was got and what is allowed."""

    def __init__(self, field: str, *, got: object, allowed: str) -> None:
        text = got if isinstance(got, str) else repr(got)
        shown = text if len(text) <= GOT_MAX_CHARS else f"{text[:GOT_MAX_CHARS]}… ({len(text)} characters)"
        super().__init__(f"{field}: got {shown!r}; allowed: {allowed}", code="invalid-input")
        self.field = field
        self.got = shown
        self.allowed = allowed


class NotFound(PermanentError):
    """The thing asked for does not exist, or is not the caller's; the two are not told apart on purpose."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, code="not-found")
