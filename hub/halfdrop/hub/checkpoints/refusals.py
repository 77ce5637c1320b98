"""How a checkpoint is refused: what was got, what is allowed, what to do about it."""

from halfdrop.contracts.errors import GOT_MAX_CHARS, PermanentError

BAD = "bad-checkpoint"
"""Damaged, incomplete, or in a form that is not read here."""

UNSUPPORTED = "unsupported-checkpoint"
"""Sound, as far as it was read, but of a kind that cannot be made to repeat here."""


def refusal(what: str, *, got: str, allowed: str, advice: str, code: str = BAD) -> PermanentError:
    """Return the error to raise. what: the file or the member; advice: an imperative sentence without a full stop."""
    return PermanentError(f"{what}: got {got}; allowed: {allowed}. {advice}.", code=code)


def shown(value: object) -> str:
    """Return a value that somebody else wrote, short enough for a message."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= GOT_MAX_CHARS else f"{text[:GOT_MAX_CHARS]}…"
