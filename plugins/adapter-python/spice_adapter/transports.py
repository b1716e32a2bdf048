# SPDX-License-Identifier: Apache-2.0
"""The two sides of the bus an adapter uses: administrative calls, and work."""

from __future__ import annotations

from collections.abc import Sequence

import oslo_messaging
from oslo_config import cfg

ADMIN_EXCHANGE = "spice"
WORK_EXCHANGE = "spice_work"


# Durable, whatever the deployment's other queues are; and only one request is fetched ahead (see BoundedServer).
WORK_OPTIONS = {"amqp_durable_queues": "true", "rabbit_qos_prefetch_count": "1"}


class Transports:
    """Two oslo.messaging transports with the deployment's options, which differ in what kind of queues they use."""

    def __init__(self, config_files: Sequence[str], url: str | None) -> None:
        # The global one: oslo.messaging registers some of its options nowhere else.
        conf = cfg.CONF
        conf([], project="spice", default_config_files=list(config_files), default_config_dirs=[])
        self.admin = oslo_messaging.get_rpc_transport(conf, url=url)
        for_work = oslo_messaging.TransportURL.parse(conf, url)
        for_work.query = {**for_work.query, **WORK_OPTIONS}
        self.work = oslo_messaging.get_rpc_transport(conf, url=for_work)

    def close(self) -> None:
        """Lets go of the connections."""
        self.admin.cleanup()
        self.work.cleanup()
