"""The keeper of the release key: it computes the gate's evidence again from bytes, and signs or refuses.

A process of its own with a key of its own; the hub is only somebody it asks over HTTP (invariant 5).
"""

from __future__ import annotations

from edgewise.signer._evidence import Checked, check_evidence
from edgewise.signer._loop import Limits, Signer, release_key, run
from edgewise.signer._person import sign_by_person

__all__ = ["Checked", "Limits", "Signer", "check_evidence", "release_key", "run", "sign_by_person"]
