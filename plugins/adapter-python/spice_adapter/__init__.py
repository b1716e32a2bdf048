# SPDX-License-Identifier: Apache-2.0
"""An adapter for SPICE in Python: a ``Check`` says how one node is judged, everything around it is here.

``python -m spice_adapter --check MODULE:CLASS`` serves a check; ``Adapter`` does the same inside another program.
"""

from spice_adapter.adapter import Adapter
from spice_adapter.batch import Batch
from spice_adapter.check import Check, CheckError, Outcome, failed, passed
from spice_adapter.handover import HandOver
from spice_adapter.presence import InHand, Presence
from spice_adapter.transports import Transports

__all__ = [
    "Adapter",
    "Batch",
    "Check",
    "CheckError",
    "HandOver",
    "InHand",
    "Outcome",
    "Presence",
    "Transports",
    "failed",
    "passed",
]
