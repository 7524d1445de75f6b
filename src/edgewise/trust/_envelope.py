"""The signed envelope: exact bytes, their type, and signatures over both.

Source: DSSE protocol v1.0 (secure-systems-lab/dsse, protocol.md), the form that in-toto and sigstore use.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence

from edgewise.trust._keys import PrivateKey, unbase64, verifies
from edgewise.wire import Envelope, NotTrusted, NotValid, PublicKey, Signature

PAYLOAD_BYTES_MAX = 4 << 20
SIGNATURES_MAX = 32  # each costs a curve operation, so the sender must not choose how many we do


def pre_authentication(payload: bytes, payload_type: str) -> bytes:
    """The bytes that are signed: type and payload with their lengths, so that neither can be read as the other.

    >>> pre_authentication(b"hello world", "http://example.com/HelloWorld")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(payload: bytes, payload_type: str, keys: Sequence[PrivateKey]) -> Envelope:
    """The payload with one signature a key.

    Raises:
        NotValid: no key, the same key twice, or more bytes or keys than a reader accepts.
    """
    if not keys or len({key.public.keyid for key in keys}) != len(keys) or len(keys) > SIGNATURES_MAX:
        raise NotValid(f"sealing got {len(keys)} keys; needs 1 to {SIGNATURES_MAX} different ones", code="keys_invalid")
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise NotValid(
            f"the payload has {len(payload)} bytes, at most {PAYLOAD_BYTES_MAX} can be sealed", code="payload_too_big"
        )
    message = pre_authentication(payload, payload_type)
    return Envelope(
        payload_type=payload_type,
        payload=base64.b64encode(payload).decode(),
        signatures=tuple(
            Signature(keyid=key.public.keyid, sig=base64.b64encode(key.sign(message)).decode()) for key in keys
        ),
    )


def open_envelope(envelope: Envelope, *, payload_type: str, keys: Sequence[PublicKey], threshold: int = 1) -> bytes:
    """The payload, once enough of the keys have signed exactly these bytes as this type.

    Raises:
        NotTrusted: another type, malformed base64, or fewer than `threshold` good signatures by different keys.
        NotValid: the threshold is below 1.
    """
    if threshold < 1:
        raise NotValid(f"the signature threshold is {threshold}, needs to be at least 1", code="threshold_invalid")
    if envelope.payload_type != payload_type:
        raise NotTrusted(
            f"the envelope holds {envelope.payload_type[:80]!r}, needed {payload_type!r}",
            code="type_wrong",
        )
    if len(envelope.signatures) > SIGNATURES_MAX or len(envelope.payload) > PAYLOAD_BYTES_MAX * 4 // 3 + 4:
        raise NotTrusted(
            f"the envelope has {len(envelope.signatures)} signatures and {len(envelope.payload)} characters; at most "
            f"{SIGNATURES_MAX} signatures over {PAYLOAD_BYTES_MAX} bytes are read",
            code="envelope_too_big",
        )
    payload = unbase64(envelope.payload, "the envelope's payload")
    good = _good_signers(envelope, pre_authentication(payload, payload_type), keys)
    if len(good) < threshold:
        raise NotTrusted(
            f"{len(good)} of {threshold} needed signatures hold; signed by "
            f"{_short(s.keyid for s in envelope.signatures)}, needed {threshold} of "
            f"{_short(key.keyid for key in keys)}; have it signed by the right key",
            code="signature_wrong",
        )
    return payload


def _good_signers(envelope: Envelope, message: bytes, keys: Sequence[PublicKey]) -> set[str]:
    """Ids of the trusted keys with a good signature; a set, so that a repeated signature counts once."""
    trusted = {key.keyid: key for key in keys}
    return {
        signature.keyid
        for signature in envelope.signatures
        if signature.keyid in trusted
        and verifies(trusted[signature.keyid], unbase64(signature.sig, "a signature"), message)
    }


def _short(keyids: Iterable[str]) -> str:
    return ", ".join(f"{keyid[:16]}…" for keyid in keyids) or "nobody"
