"""Envelopes signed by the P-256 key of a certificate, in the same form as all others (DSSE)."""

from __future__ import annotations

import base64

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgewise.trust._authority import key_of
from edgewise.trust._certificate_keys import CertificateKey
from edgewise.trust._envelope import PAYLOAD_BYTES_MAX, pre_authentication
from edgewise.trust._keys import unbase64
from edgewise.wire import Envelope, NotTrusted, NotValid, PublicKey, Signature


def seal_certified(payload: bytes, payload_type: str, key: CertificateKey) -> Envelope:
    """The payload with the signature of a certificate's key, ECDSA with SHA-256. NotValid: it is too big."""
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise NotValid(
            f"the payload has {len(payload)} bytes, at most {PAYLOAD_BYTES_MAX} can be sealed", code="payload_too_big"
        )
    signature = base64.b64encode(key.sign(pre_authentication(payload, payload_type))).decode()
    return Envelope(
        payload_type=payload_type,
        payload=base64.b64encode(payload).decode(),
        signatures=(Signature(keyid=key.public.keyid, sig=signature),),
    )


def open_certified(envelope: Envelope, *, payload_type: str, certificate: bytes) -> bytes:
    """The payload, once the key of this certificate (DER, verified by the caller) has signed it as this type.

    Raises:
        NotTrusted: another type, too big, malformed base64, or no good signature of this key.
    """
    return open_by_key(envelope, payload_type=payload_type, public=key_of(certificate))


def open_by_key(envelope: Envelope, *, payload_type: str, public: PublicKey) -> bytes:
    """The payload, once this P-256 key, which the caller knows as a device's, has signed it as this type.

    Raises:
        NotTrusted: another type, too big, malformed base64, or no good signature of this key.
    """
    if envelope.payload_type != payload_type:
        raise NotTrusted(
            f"the envelope holds {envelope.payload_type[:80]!r}, needed {payload_type!r}", code="type_wrong"
        )
    if len(envelope.signatures) != 1 or len(envelope.payload) > PAYLOAD_BYTES_MAX * 4 // 3 + 4:
        raise NotTrusted(
            f"the envelope has {len(envelope.signatures)} signatures and {len(envelope.payload)} characters; needs "
            f"one signature over at most {PAYLOAD_BYTES_MAX} bytes",
            code="envelope_too_big",
        )
    payload = unbase64(envelope.payload, "the envelope's payload")
    (signature,) = envelope.signatures
    key = serialization.load_der_public_key(unbase64(public.public, "a public key"))
    assert isinstance(key, ec.EllipticCurvePublicKey), "devices have P-256 keys only"
    try:
        if signature.keyid != public.keyid:
            raise InvalidSignature
        key.verify(
            unbase64(signature.sig, "a signature"), pre_authentication(payload, payload_type), ec.ECDSA(hashes.SHA256())
        )
    except InvalidSignature as error:
        raise NotTrusted(
            f"signed by {signature.keyid[:16]}…, needed a signature of the certificate's key {public.keyid[:16]}… over "
            "exactly these bytes",
            code="signature_wrong",
        ) from error
    return payload
