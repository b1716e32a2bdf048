# SPDX-License-Identifier: Apache-2.0
"""An oslo.messaging server that takes no more than it carries out."""

from __future__ import annotations

import threading
from typing import Any

from oslo_messaging.rpc.server import RPCServer


class BoundedServer(RPCServer):
    """Stops reading its queue while ``limit`` requests are carried out.

    oslo.messaging acknowledges a request when it arrives and keeps as many as arrive in memory, where they wait, expire
    and die with the process. Here the thread that reads waits instead, so with a prefetch of one everything that was
    acknowledged is being carried out. A broker that hears no heartbeat from the waiting reader may close its connection
    after a while and give the one request fetched ahead to somebody else; the reader reconnects when it goes on.
    """

    limit = 1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._busy = 0
        self._stopping = False
        self._changed = threading.Condition()

    def let_go(self) -> None:
        """The reader waits no longer; to be called before ``stop``."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def _on_incoming(self, incoming: Any) -> None:
        with self._changed:
            self._busy += 1
        super()._on_incoming(incoming)
        with self._changed:
            self._changed.wait_for(lambda: self._busy < self.limit or self._stopping)

    def _process_incoming(self, incoming: Any) -> None:
        try:
            super()._process_incoming(incoming)
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()
