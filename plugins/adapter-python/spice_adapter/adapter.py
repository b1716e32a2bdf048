# SPDX-License-Identifier: Apache-2.0
"""An adapter on the bus: takes batches, verifies who sends them, judges, hands results over."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

import oslo_messaging
from spice_client import AuthError, SignedRPCClient, Signer, TrustStore, open_document, satisfies, verify_request
from spice_client.errors import shown
from spice_client.request import CONTEXT_MEMBER

from spice_adapter.batch import Batch, Result, run
from spice_adapter.check import Check
from spice_adapter.handover import HandOver
from spice_adapter.presence import InHand, Presence
from spice_adapter.server import BoundedServer
from spice_adapter.transports import ADMIN_EXCHANGE, WORK_EXCHANGE, Transports

LOG = logging.getLogger(__name__)

VERSION = "1.0"
METHOD = "run_check"
# oslo.messaging makes a connection that was lost, or refused a message, anew only while it retries; with none it never
# would. Beyond these, what cannot be sent is kept here.
RETRIES = 2


class Adapter:
    """Serves a check. ``instance`` names this process, the same over restarts, so that these are noticed."""

    target = oslo_messaging.Target(version=VERSION)

    def __init__(
        self,
        check: Check,
        transports: Transports,
        signer: Signer,
        trust: TrustStore,
        instance: str,
        batches: int = 4,
        nodes_at_once: int = 100,
    ) -> None:
        self._check = check
        self._signer = signer
        self._trust = trust
        self._batches = batches
        self._nodes_at_once = nodes_at_once
        self._topic = f"spice-adapter-{check.name}"
        self._in_hand = InHand()
        self._started = threading.Event()
        self._done: dict[tuple[int, ...], int] = {}
        self._done_lock = threading.Lock()
        self._results = SignedRPCClient(
            transports.work, "spice-nodes-results", signer, exchange=WORK_EXCHANGE, version=VERSION
        ).prepare(transport_options=oslo_messaging.TransportOptions(at_least_once=True), retry=RETRIES)
        self._checks = SignedRPCClient(
            transports.admin, "spice-checks", signer, exchange=ADMIN_EXCHANGE, version=VERSION
        ).prepare(retry=RETRIES)
        self.hand_over = HandOver(
            lambda ticket, results: self._results.cast("record_results", ticket=ticket, results=results)
        )
        self._presence = Presence(
            lambda args: self._checks.cast("adapter_announce", **args),
            check.name,
            instance,
            check.schema,
            self._in_hand,
        )
        self._server = oslo_messaging.get_rpc_server(
            transports.work,
            oslo_messaging.Target(exchange=WORK_EXCHANGE, topic=self._topic, server=instance),
            [self],
            access_policy=oslo_messaging.ExplicitRPCAccessPolicy,
            server_cls=BoundedServer,
        )
        self._server.limit = batches

    def start(self) -> None:
        """Takes batches from now on, in threads of oslo.messaging, or as soon as the broker is reached."""

        def reach() -> None:
            # Returns when the broker was reached, however long that takes.
            self._server.start(override_pool_size=self._batches)
            self._presence.start()
            self._started.set()
            LOG.info("adapter %s takes batches", self._check.name)

        threading.Thread(target=reach, name="spice-start", daemon=True).start()

    def stop(self, grace: float) -> int:
        """Takes no more batches, and gives those in hand ``grace`` seconds; says how many results are lost."""
        if not self._started.is_set():
            return 0
        self._server.let_go()
        self._server.stop()
        waiting = threading.Thread(target=self._server.wait, daemon=True)
        waiting.start()
        waiting.join(grace)
        lost = self.hand_over.kept
        self.hand_over.give_up()
        self._presence.stop()
        return lost

    @oslo_messaging.expose
    def run_check(self, context: Mapping[str, Any], ticket: Any = None, parameters: Any = None, **further: Any) -> None:
        """Carries out one batch; returns when its results are stored by the broker.

        ``further`` is what Checks says beside them (``retries``): signed with the rest, and not needed here.
        """
        try:
            batch = self._believed(context, {"ticket": ticket, "parameters": parameters, **further})
        except AuthError as error:
            LOG.warning("a batch was refused (%s): %s", error.kind, error)
            return
        if batch.left() <= 0:
            LOG.info("a batch came after its deadline; Checks reports that itself")
            return
        with self._in_hand.holding(batch) as fresh:
            if not fresh or self._is_done(batch):
                LOG.info("a batch was delivered again; it is in hand or done")
                return
            if self._carry_out(batch, ticket):
                with self._done_lock:
                    self._done[batch.key] = batch.deadline

    def _carry_out(self, batch: Batch, ticket: Mapping[str, str]) -> bool:
        LOG.debug("check %s: %d nodes, attempt %d", batch.check, len(batch.nodes), batch.name["attempt"])
        told = Teller(self.hand_over, ticket)
        told.start()
        try:
            run(self._check, batch, told.tell, self._nodes_at_once)
        finally:
            stored = told.finish()
        return stored

    def _believed(self, context: Mapping[str, Any], args: Mapping[str, Any]) -> Batch:
        ticket, parameters = args["ticket"], args["parameters"]
        verified = verify_request(
            context.get(CONTEXT_MEMBER),
            self._trust,
            self._signer.deployment,
            exchange=WORK_EXCHANGE,
            topic=self._topic,
            method=METHOD,
            args=args,
            version=VERSION,
        )
        if not satisfies(verified.roles, "checks"):
            raise AuthError("forbidden", f"{shown(verified.sender)} may not send batches: it takes the role checks")
        content, _key = open_document(ticket, "ticket", self._trust, "checks", self._signer.deployment)
        if content.get("adapter") != self._check.name:
            raise AuthError("wrong_target", f"the ticket is for adapter {shown(content.get('adapter'))}")
        if not isinstance(parameters, dict):
            raise AuthError("malformed", "the parameters are no object")
        return Batch.of(content, parameters)

    def _is_done(self, batch: Batch) -> bool:
        with self._done_lock:
            for key in [key for key, deadline in self._done.items() if deadline < batch.deadline - 1_200_000]:
                del self._done[key]
            return batch.key in self._done


class Teller:
    """Hands results over beside the judging, so that a full queue keeps no node from its deadline."""

    def __init__(self, hand_over: HandOver, ticket: Mapping[str, str]) -> None:
        self._hand_over = hand_over
        self._ticket = ticket
        self._results: list[Result] = []
        self._ended = False
        self._stored = True
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="spice-hand-over", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def tell(self, results: list[Result]) -> None:
        """Takes results, without waiting."""
        with self._changed:
            self._results += results
            self._changed.notify()

    def finish(self) -> bool:
        """Waits until everything is handed over; False when some of it was given up."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()
        return self._stored

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._results or self._ended)
                results, self._results = self._results, []
            if not results:
                return
            self._stored &= self._hand_over.give(self._ticket, results)
