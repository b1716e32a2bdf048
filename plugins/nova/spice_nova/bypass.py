"""Break-glass: until when the filter passes everything. Pure."""

import datetime

MAX_AHEAD = datetime.timedelta(hours=24)


def bypass_state(text, utc_ms):
    """(active, complaint) for the value of `[spice] bypass_until`: a value that cannot be taken counts as none."""
    if not text:
        return False, None
    try:
        # fromisoformat knows the letter only from Python 3.11 on.
        until = datetime.datetime.fromisoformat(text[:-1] + "+00:00" if text[-1] in "zZ" else text)
        if until.tzinfo is None:
            until = until.replace(tzinfo=datetime.timezone.utc)
        now = datetime.datetime.fromtimestamp(utc_ms / 1000, datetime.timezone.utc)
        ahead = until - now
    except (ValueError, OverflowError, OSError):
        return False, "is not a time like 2030-01-31T12:00:00Z; it is ignored"
    if ahead > MAX_AHEAD:
        return False, "is more than 24 hours ahead; it is ignored, set a nearer time"
    return ahead > datetime.timedelta(0), None
