"""Sign, verify, never go back: releases, assignments, device requests, tokens and the audit chain; pure, on bytes."""

from edgewise.trust._audit import GENESIS, AuditEntry, first_broken, next_entry
from edgewise.trust._envelope import open_envelope, pre_authentication, seal
from edgewise.trust._install import may_install, open_assignment
from edgewise.trust._keys import PrivateKey, verifies
from edgewise.trust._request import SIGNATURE_HEADER, SKEW_S_MAX, request_device, sign_request, verify_request
from edgewise.trust._tokens import new_token, token_digest

__all__ = [
    "GENESIS",
    "SIGNATURE_HEADER",
    "SKEW_S_MAX",
    "AuditEntry",
    "PrivateKey",
    "first_broken",
    "may_install",
    "new_token",
    "next_entry",
    "open_assignment",
    "open_envelope",
    "pre_authentication",
    "request_device",
    "seal",
    "sign_request",
    "token_digest",
    "verifies",
    "verify_request",
]
