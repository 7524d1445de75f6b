"""A device's name in a certificate: a SPIFFE ID, one URI and nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from cryptography import x509

from edgewise.wire import NotTrusted, NotValid

TRUST_DOMAIN = "edgewise.internal"  # of hubs that are not told another; `.internal` is reserved for private use
DOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
SEGMENT_SAFE = "._-"


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceId:
    """Who a certificate is for.

    Source: the SPIFFE ID standard, section 2. Other characters of a name are percent-encoded.
    """

    trust_domain: str
    site: str
    device: str

    @property
    def uri(self) -> str:
        """
        >>> DeviceId(trust_domain="edgewise.internal", site="plant a", device="press-4").uri
        'spiffe://edgewise.internal/site/plant%20a/device/press-4'
        """
        return f"spiffe://{self.trust_domain}/site/{_quoted(self.site)}/device/{_quoted(self.device)}"


def read_device_id(uri: str) -> DeviceId:
    """The name in a SPIFFE ID.

    Raises:
        NotTrusted: not one of a device.

    >>> read_device_id("spiffe://edgewise.internal/site/a/device/press-4").device
    'press-4'
    """
    match = re.fullmatch(r"spiffe://([^/?#]+)/site/([^/?#]+)/device/([^/?#]+)", uri)
    if match is None or not DOMAIN.fullmatch(match[1]):
        raise NotTrusted(
            f"the certificate's name is {uri[:120]!r}, needs spiffe://DOMAIN/site/SITE/device/DEVICE", code="identity"
        )
    found = DeviceId(trust_domain=match[1], site=unquote(match[2]), device=unquote(match[3]))
    if found.uri != uri:  # two spellings of one name would be two identities
        raise NotTrusted(f"the certificate's name {uri[:120]!r} is not spelt as {found.uri}", code="identity")
    return found


def device_id_of(certificate: x509.Certificate) -> DeviceId:
    """The one device that a certificate names.

    Raises:
        NotTrusted: it names none, more than one, or more than a device.
    """
    try:
        names = list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
        raise NotTrusted(f"the certificate names no device: {error}", code="identity") from error
    if len(names) != 1 or not isinstance(names[0], x509.UniformResourceIdentifier):
        raise NotTrusted(
            f"the certificate has {len(names)} names, needs exactly one URI spiffe://DOMAIN/site/SITE/device/DEVICE",
            code="identity",
        )
    return read_device_id(names[0].value)


def check_trust_domain(domain: str) -> str:
    """
    Raises:
        NotValid: not a name for a trust domain.
    """
    if len(domain) > 200 or not DOMAIN.fullmatch(domain):
        raise NotValid(
            f"{domain[:80]!r} is not a trust domain; needs lower-case labels with a dot, such as plants.example.com",
            code="trust_domain_invalid",
        )
    return domain


def _quoted(text: str) -> str:
    return quote(text, safe=SEGMENT_SAFE)
