"""The keepers of the offline keys: the gate's evidence is computed again from bytes, then signed or refused.

Processes and people with keys of their own; the hub is only somebody it asks over HTTP (invariant 5).
"""

from __future__ import annotations

from edgewise.signer._ceremony import Holders, add_signature, begin, delegate, revoke, rotate
from edgewise.signer._desk import Desk
from edgewise.signer._evidence import Checked, check_evidence
from edgewise.signer._loop import Limits, Signer, run
from edgewise.signer._person import Signed, sign_by_person
from edgewise.signer._releases import next_release, publish_release, withdraw_release

__all__ = [
    "Checked",
    "Desk",
    "Holders",
    "Limits",
    "Signed",
    "Signer",
    "add_signature",
    "begin",
    "check_evidence",
    "delegate",
    "next_release",
    "publish_release",
    "revoke",
    "rotate",
    "run",
    "sign_by_person",
    "withdraw_release",
]
