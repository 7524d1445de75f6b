"""X.509 name constraints (RFC 5280 section 4.2.1.10), of every kind of name that edgewise meets.

The X.509 library stops at URI and directory names; device certificates carry a URI, so these rules are ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from urllib.parse import urlsplit

from cryptography import x509

COMPARED = (
    x509.DNSName,
    x509.IPAddress,
    x509.RFC822Name,
    x509.UniformResourceIdentifier,
    x509.DirectoryName,
)


def broken_constraint(constraints: x509.NameConstraints, certificate: x509.Certificate) -> str | None:
    """What a certificate's names break of these constraints, as a clause; None where they hold.

    What cannot be compared counts as broken: a constraint that nobody enforces protects nothing.
    """
    excluded, permitted = constraints.excluded_subtrees or [], constraints.permitted_subtrees or []
    for name in names_of(certificate):
        kind = type(name)
        if kind not in COMPARED:
            if any(type(one) is kind for one in (*excluded, *permitted)):
                return f"a {kind.__name__} cannot be compared"
            continue
        for one in excluded:
            if type(one) is kind and _within(name, one) is not False:
                return f"{_text(name)} is excluded by {_text(one)}"
        allowed = [one for one in permitted if type(one) is kind]
        if allowed and not any(_within(name, one) for one in allowed):
            return f"{_text(name)} is not within {' or '.join(_text(one) for one in allowed)[:120]}"
    return None


def names_of(certificate: x509.Certificate) -> Iterable[x509.GeneralName]:
    """The subject, where there is one, and every alternative name."""
    if certificate.subject.rdns:
        yield x509.DirectoryName(certificate.subject)
    for attribute in certificate.subject.get_attributes_for_oid(x509.NameOID.EMAIL_ADDRESS):
        yield x509.RFC822Name(str(attribute.value))
    try:
        yield from certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return


def _within(name: x509.GeneralName, constraint: x509.GeneralName) -> bool | None:
    """Whether a name lies in a subtree of its own kind; None where that cannot be said."""
    match name, constraint:
        case x509.DNSName(), x509.DNSName():
            return _dns_within(name.value.lower(), constraint.value.lower())
        case x509.IPAddress(), x509.IPAddress():
            network = constraint.value
            if not isinstance(network, IPv4Network | IPv6Network) or isinstance(name.value, IPv4Network | IPv6Network):
                return None
            return name.value in network
        case x509.RFC822Name(), x509.RFC822Name():
            return _mail_within(name.value, constraint.value)
        case x509.UniformResourceIdentifier(), x509.UniformResourceIdentifier():
            return _uri_within(name.value, constraint.value.lower())
        case x509.DirectoryName(), x509.DirectoryName():
            return _directory_within(name.value, constraint.value)
    return None


def _dns_within(name: str, constraint: str) -> bool | None:
    if constraint.startswith("."):
        return None
    return not constraint or name == constraint or name.endswith("." + constraint)


def _mail_within(name: str, constraint: str) -> bool | None:
    local, at, host = name.rpartition("@")
    if not at:
        return None
    if "@" in constraint:
        wanted_local, _, wanted_host = constraint.rpartition("@")
        return local == wanted_local and host.lower() == wanted_host.lower()
    host, constraint = host.lower(), constraint.lower()
    return host.endswith(constraint) if constraint.startswith(".") else host == constraint


def _uri_within(name: str, constraint: str) -> bool | None:
    try:
        host = urlsplit(name).hostname
    except ValueError:
        return None
    # RFC 5280: a URI without a host name can satisfy no constraint; a leading dot means one label more or several.
    if not host or host.replace(".", "").isdigit() or ":" in host:
        return None
    return host.endswith(constraint) and host != constraint if constraint.startswith(".") else host == constraint


def _directory_within(name: x509.Name, constraint: x509.Name) -> bool:
    ours, wanted = [_rdn(one) for one in name.rdns], [_rdn(one) for one in constraint.rdns]
    return ours[: len(wanted)] == wanted


def _rdn(rdn: x509.RelativeDistinguishedName) -> frozenset[tuple[str, str]]:
    # Case and inner spaces do not count (RFC 5280 section 7.1).
    return frozenset((one.oid.dotted_string, " ".join(str(one.value).casefold().split())) for one in rdn)


def _text(name: x509.GeneralName) -> str:
    value = name.value
    return value.rfc4514_string() if isinstance(value, x509.Name) else str(value)
