"""Whether a client that names an entity tag has what it stands for (RFC 9110, 13.1.2)."""


def matches_tag(if_none_match: str, tag: str) -> bool:
    """True if a client that sent this If-None-Match has what `tag` stands for; the comparison is weak."""
    if if_none_match == tag:
        return True
    sent = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
    return "*" in sent or tag.removeprefix("W/") in sent
