"""Sign, verify, never go back: releases, assignments, certificates, tokens and the audit chain; pure, on bytes."""

from edgewise.trust._audit import GENESIS, AuditEntry, first_broken, next_entry
from edgewise.trust._authority import (
    CertificateLimits,
    Request,
    ders_of,
    fingerprint,
    issue_device,
    issue_server,
    key_of,
    make_request,
    new_issuer,
    new_root,
    open_request,
    pack_certificates,
    pem_of,
    unpack_certificates,
    validity_of,
)
from edgewise.trust._certificate_keys import CertificateKey
from edgewise.trust._certified import open_by_key, open_certified, seal_certified
from edgewise.trust._chain import ChainVerdict, verify_device_certificate
from edgewise.trust._device_id import TRUST_DOMAIN, DeviceId, check_trust_domain
from edgewise.trust._envelope import open_envelope, pre_authentication, seal
from edgewise.trust._install import may_install, open_assignment
from edgewise.trust._keys import PrivateKey, verifies
from edgewise.trust._revocation import Revoked, read_revoked
from edgewise.trust._tokens import new_token, token_digest

__all__ = [
    "GENESIS",
    "TRUST_DOMAIN",
    "AuditEntry",
    "CertificateKey",
    "CertificateLimits",
    "ChainVerdict",
    "DeviceId",
    "PrivateKey",
    "Request",
    "Revoked",
    "check_trust_domain",
    "ders_of",
    "fingerprint",
    "first_broken",
    "issue_device",
    "issue_server",
    "key_of",
    "make_request",
    "may_install",
    "new_issuer",
    "new_root",
    "new_token",
    "next_entry",
    "open_assignment",
    "open_by_key",
    "open_certified",
    "open_envelope",
    "open_request",
    "pack_certificates",
    "pem_of",
    "pre_authentication",
    "read_revoked",
    "seal",
    "seal_certified",
    "token_digest",
    "unpack_certificates",
    "validity_of",
    "verifies",
    "verify_device_certificate",
]
