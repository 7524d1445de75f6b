"""Enrolment in the shape of EST (RFC 7030): the authority's certificates, a first certificate, the next one."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import timedelta

from starlette.routing import Route

from edgewise.hub import enrol
from edgewise.hub._hub import Hub
from edgewise.hub.api.device import Answer, Call, RawRoute, route
from edgewise.hub.enrol import Enrolment
from edgewise.hub.known import known_device
from edgewise.hub.store.devices import DeviceRow
from edgewise.trust import Request as CertificateRequest
from edgewise.trust import open_request, pack_certificates, validity_of
from edgewise.wire import NotTrusted, NotValid

PREFIX = "/.well-known/est"
CERTIFICATES = "application/pkcs7-mime; smime-type=certs-only"
PEM_REQUEST = re.compile(rb"-----BEGIN [A-Z ]*CERTIFICATE REQUEST-----(.+?)-----END [A-Z ]*", re.DOTALL)


def authorities(call: Call) -> Answer:
    """Open to all: who asks compares the root with the fingerprint in its token."""
    return _certificates(*call.hub.authority.chain)


def first(call: Call) -> Answer:
    """A certificate for a one-time token and a signing request."""
    token, asked, hub = _token(call), _request(call), call.hub
    _ = hub.root  # first: a token must not be used up for a device that could check nothing
    wish = Enrolment(token=token, public=asked.public, device=asked.common_name or None)
    return _issue(hub, enrol.enrol(hub.store, wish, now=hub.now(), chance=hub.chance))


def again(call: Call) -> Answer:
    """The next certificate for the key that the device has, shown by its certificate or within the grace by the key."""
    asked, hub = _request(call), call.hub
    try:
        device = call.device()
    except NotTrusted as error:
        if error.code not in ("no_certificate", "certificate_validity"):
            raise
        grace = timedelta(days=hub.config.certificates.grace_days)
        return _issue(hub, enrol.by_key(hub.store, asked.public, now=hub.now(), grace=grace))
    with hub.store.read() as connection:
        row = known_device(connection, device)
    if asked.public != row.public_key:
        raise NotTrusted(
            f"device {row.id} asks for a certificate for another key; a new key needs a new token", code="key_replaced"
        )
    return _issue(hub, row)


def routes(hub: Hub) -> list[Route]:
    """The routes, at the well-known place."""
    bytes_max = 2 * hub.config.certificates.request_bytes_max  # base64 and its lines
    return [
        route(f"{PREFIX}/cacerts", RawRoute(hub, authorities, for_devices=True), "GET"),
        route(f"{PREFIX}/simpleenroll", RawRoute(hub, first, for_devices=True, bytes_max=bytes_max), "POST"),
        route(f"{PREFIX}/simplereenroll", RawRoute(hub, again, for_devices=True, bytes_max=bytes_max), "POST"),
    ]


def _issue(hub: Hub, row: DeviceRow) -> Answer:
    made = hub.authority.device_certificate(row.public_key, site=row.site, device=row.id, now=hub.now())
    enrol.certified(hub.store, row.id, validity_of(made)[1])
    return _certificates(made, hub.authority.device_issuer)


def _certificates(*certificates: bytes) -> Answer:
    body = base64.encodebytes(pack_certificates(certificates))
    return Answer(body=body, media_type=CERTIFICATES, headers={"Content-Transfer-Encoding": "base64"})


def _token(call: Call) -> str:
    """The one-time token: the password of HTTP Basic, or a bearer token."""
    scheme, _, value = call.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    if scheme.lower() == "basic":
        try:
            password = base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            password = ""
        if password:
            return password
    raise NotTrusted(
        "enrolment needs the one-time token as the password of HTTP Basic; `edgewise hub enrol-token` makes one",
        code="token_missing",
    )


def _request(call: Call) -> CertificateRequest:
    """The PKCS #10 request in the body: base64 as RFC 7030 has it; PEM and DER are taken too."""
    found = PEM_REQUEST.search(call.body)
    data = found[1] if found else call.body
    if data[:1] != b"\x30":
        try:
            data = base64.b64decode(b"".join(data.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise NotValid(f"the body is not a PKCS #10 request in base64: {error}", code="csr_invalid") from error
    if len(data) > call.hub.config.certificates.request_bytes_max:
        raise NotValid(f"the request has {len(data)} bytes", code="too_big")
    return open_request(data)
