"""Signing and opening envelopes: only the exact bytes, of the exact type, by enough different trusted keys."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.trust import PrivateKey, open_envelope, pre_authentication, seal, verifies
from edgewise.wire import Envelope, NotTrusted, NotValid, PublicKey, Signature, decode, digest, encode

ANN, BEN, EVE = (PrivateKey.generate(seed=name) for name in (b"ann", b"ben", b"eve"))
KIND = "application/x-test"


@given(payload=st.binary(max_size=300), kind=st.text(min_size=1, max_size=30))
def test_what_was_sealed_comes_back_byte_for_byte(payload: bytes, kind: str) -> None:
    envelope = decode(Envelope, encode(seal(payload, kind, [ANN])))
    assert open_envelope(envelope, payload_type=kind, keys=[ANN.public]) == payload


@given(payload=st.binary(min_size=1, max_size=100), bit=st.integers(0, 10_000))
def test_one_changed_bit_is_refused(payload: bytes, bit: int) -> None:
    envelope = seal(payload, KIND, [ANN])
    changed = bytearray(payload)
    changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    forged = envelope.model_copy(update={"payload": base64.b64encode(bytes(changed)).decode()})
    with pytest.raises(NotTrusted, match="0 of 1 needed"):
        open_envelope(forged, payload_type=KIND, keys=[ANN.public])


@given(st.binary(max_size=40), st.text(max_size=10), st.binary(max_size=40), st.text(max_size=10))
def test_no_two_contents_are_signed_as_the_same_bytes(first: bytes, kind: str, second: bytes, other: str) -> None:
    same = pre_authentication(first, kind) == pre_authentication(second, other)
    assert same == ((first, kind) == (second, other))


def test_two_keys_are_needed_where_the_threshold_says_two() -> None:
    keys = [ANN.public, BEN.public]
    both = seal(b"x", KIND, [ANN, BEN])
    assert open_envelope(both, payload_type=KIND, keys=keys, threshold=2) == b"x"
    with pytest.raises(NotTrusted, match="1 of 2 needed"):
        open_envelope(seal(b"x", KIND, [ANN]), payload_type=KIND, keys=keys, threshold=2)


def test_one_signature_twice_counts_once() -> None:
    once = seal(b"x", KIND, [ANN])
    twice = once.model_copy(update={"signatures": once.signatures * 2})
    with pytest.raises(NotTrusted, match="1 of 2 needed"):
        open_envelope(twice, payload_type=KIND, keys=[ANN.public, BEN.public], threshold=2)


def test_one_key_under_two_ids_is_refused_and_not_counted_twice() -> None:
    once = seal(b"x", KIND, [ANN])
    alias = PublicKey(keyid=digest(b"another"), public=ANN.public.public)
    both = (*once.signatures, Signature(keyid=alias.keyid, sig=once.signatures[0].sig))
    with pytest.raises(NotTrusted) as refused:
        open_envelope(
            once.model_copy(update={"signatures": both}), payload_type=KIND, keys=[ANN.public, alias], threshold=2
        )
    assert refused.value.code == "key_mismatch"


def test_a_stranger_cannot_sign_under_a_trusted_id_and_the_message_names_both_sides() -> None:
    stolen = seal(b"x", KIND, [EVE])
    lied = stolen.model_copy(update={"signatures": (Signature(keyid=ANN.public.keyid, sig=stolen.signatures[0].sig),)})
    for envelope in (stolen, lied):
        with pytest.raises(NotTrusted) as refused:
            open_envelope(envelope, payload_type=KIND, keys=[ANN.public])
        assert envelope.signatures[0].keyid[:16] in str(refused.value)
        assert ANN.public.keyid[:16] in str(refused.value)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"payload_type": "application/other"}, "type_wrong"),
        ({"payload": "not base64!"}, "base64_invalid"),
        ({"payload": base64.b64encode(b"x").decode() + "\n"}, "base64_invalid"),
        ({"payload": "A" * 6_000_000}, "envelope_too_big"),
        ({"signatures": ()}, "signature_wrong"),
        ({"signatures": (Signature(keyid=ANN.public.keyid, sig="AAAA"),)}, "signature_wrong"),
        ({"signatures": (Signature(keyid=ANN.public.keyid, sig="***"),)}, "base64_invalid"),
        ({"signatures": (Signature(keyid=ANN.public.keyid, sig="AAAA"),) * 33}, "envelope_too_big"),
    ],
)
def test_a_malformed_envelope_is_refused(change: dict[str, object], code: str) -> None:
    with pytest.raises(NotTrusted) as refused:
        open_envelope(seal(b"x", KIND, [ANN]).model_copy(update=change), payload_type=KIND, keys=[ANN.public])
    assert refused.value.code == code


def test_asking_for_no_signature_at_all_is_a_mistake() -> None:
    with pytest.raises(NotValid):
        open_envelope(seal(b"x", KIND, [ANN]), payload_type=KIND, keys=[ANN.public], threshold=0)
    for keys in ([], [ANN, ANN]):
        with pytest.raises(NotValid):
            seal(b"x", KIND, keys)
    with pytest.raises(NotValid):
        seal(bytes(5 << 20), KIND, [ANN])


def test_a_key_survives_its_file_and_never_shows_its_secret() -> None:
    again = PrivateKey.from_pem(ANN.to_pem())
    assert again == ANN
    assert hash(again) == hash(ANN)
    assert ANN != BEN
    assert b"PRIVATE KEY" in ANN.to_pem()
    assert repr(ANN) == f"PrivateKey(keyid={ANN.public.keyid[:16]}…)"
    assert PrivateKey.generate() != PrivateKey.generate()


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN PRIVATE KEY-----\nxx\n-----END PRIVATE KEY-----\n"])
def test_a_broken_key_file_is_one_clear_sentence(pem: bytes) -> None:
    with pytest.raises(NotValid) as refused:
        PrivateKey.from_pem(pem)
    assert refused.value.code == "key_invalid"
    with pytest.raises(NotValid):
        PrivateKey.generate(seed=b"")


def test_a_key_of_another_kind_is_refused() -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    pem = X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(NotValid, match="needs to be ed25519"):
        PrivateKey.from_pem(pem)


def test_a_public_key_of_the_wrong_length_is_refused() -> None:
    short = PublicKey(keyid=digest(b"x"), public=base64.b64encode(b"x").decode())
    with pytest.raises(NotTrusted):
        verifies(short, bytes(64), b"")
