# SPDX-License-Identifier: Apache-2.0
"""An oslo.messaging RPC client whose requests are signed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import oslo_messaging

from spice_client.keys import Signer
from spice_client.request import CONTEXT_MEMBER, sign_request


class SignedRPCClient:
    """Calls and casts to one topic, signed by ``signer``.

    ``transport`` is what ``oslo_messaging.get_rpc_transport`` gives; its options (TLS, hosts, durable queues, the
    default timeout) hold as for every oslo.messaging client. ``exchange`` is ``spice`` for administrative calls and
    ``spice_work`` for what adapters send. ``context`` is sent along, unsigned, for logs.

    Answers are not verified: see the package's description.
    """

    def __init__(
        self,
        transport: oslo_messaging.Transport,
        topic: str,
        signer: Signer,
        *,
        exchange: str = "spice",
        server: str | None = None,
        fanout: bool = False,
        version: str | None = None,
        namespace: str | None = None,
        timeout: float | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        target = oslo_messaging.Target(
            exchange=exchange,
            topic=topic,
            server=server,
            fanout=fanout,
            version=version,
            namespace=namespace,
        )
        self._client = oslo_messaging.get_rpc_client(transport, target, timeout=timeout)
        self._signer = signer
        self._context = dict(context or {})

    def prepare(self, **options: Any) -> SignedRPCClient:
        """The same client with other options, such as server, fanout, version, namespace and timeout.

        Takes what oslo.messaging's own ``prepare`` takes.
        """
        prepared = object.__new__(type(self))
        prepared._client = self._client.prepare(**options)
        prepared._signer = self._signer
        prepared._context = self._context
        return prepared

    def call(self, method: str, /, **args: Any) -> Any:
        """Calls ``method`` and gives its result; raises as oslo.messaging does, CanonicalError for unfit arguments."""
        return self._client.call(self._signed_context(method, args), method, **args)

    def cast(self, method: str, /, **args: Any) -> None:
        """Sends ``method`` without awaiting anything."""
        self._client.cast(self._signed_context(method, args), method, **args)

    def _signed_context(self, method: str, args: Mapping[str, Any]) -> dict[str, Any]:
        # The client's own target is what it will send to, whatever was prepared.
        target = self._client.target
        auth, _digest = sign_request(
            self._signer,
            exchange=target.exchange,
            topic=target.topic,
            server=target.server,
            fanout=bool(target.fanout),
            namespace=target.namespace,
            version=target.version,
            method=method,
            args=args,
        )
        return {**self._context, CONTEXT_MEMBER: auth}
