"""What filter and weigher share in a process: one source for the configured folder, the clock, restraint in logs."""

import threading

from spice_nova import options
from spice_nova.clock import SystemClock
from spice_nova.source import PoolSource

CONF = options.CONF
REPEAT_MS = 60_000
MAX_SUBJECTS = 2000

clock = SystemClock()
_settings_lock = threading.Lock()
_current = (None, None)


def pool_source():
    """The source for the options as they are now; the same one until they change."""
    global _current
    conf = CONF.spice
    # The clock belongs to the settings so that tests which replace it get a source of their own.
    settings = (conf.pool_dir, conf.deployment, conf.pool_owner, clock)
    known, source = _current
    if known == settings:
        return source
    with _settings_lock:
        known, source = _current
        if known != settings:
            source = PoolSource(*settings)
            _current = (settings, source)
        return source


class Restraint:
    """Says what is wrong when it begins, when it changes, and once a minute; and when it is over."""

    def __init__(self):
        self._said = {}

    def is_due(self, about, what, now_ms):
        """Whether to say `what` (None: nothing is wrong any more) about a subject, one of few."""
        # Without a lock: two threads may at worst both say it.
        before, said_at_ms = self._said.get(about, (None, 0))
        if what is None and before is None:
            return False
        if what == before and now_ms - said_at_ms < REPEAT_MS:
            return False
        if len(self._said) > MAX_SUBJECTS:
            # Pools come and go; to say something once more is the lesser evil.
            self._said.clear()
        self._said[about] = (what, now_ms)
        return True
