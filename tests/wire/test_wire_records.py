"""Records: checked once at birth, unknown fields kept, the same record gives the same bytes."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.wire import (
    SEGMENTS_MAX,
    Condition,
    Decision,
    Envelope,
    NotNow,
    NotTrusted,
    NotValid,
    Release,
    Report,
    SegmentHeader,
    UploadHeader,
    UseCase,
    canonical,
    decode,
    digest,
    encode,
    pack_upload,
    record_digest,
    unmet,
    unpack_upload,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DIGEST = digest(b"bundle")


def header(sizes: list[int], payloads: list[bytes]) -> UploadHeader:
    segments = tuple(
        SegmentHeader(
            number=index + 1,
            sha256=digest(payload),
            size_bytes=size,
            record_class="sample",
            count=1,
            policy_version=1,
            transform="strip-metadata",
            sealed_at=NOW,
        )
        for index, (size, payload) in enumerate(zip(sizes, payloads, strict=True))
    )
    return UploadHeader(
        device="line-1", epoch="0" * 32, sent_at=NOW, report=Report(at=NOW, phase="idle"), segments=segments
    )


def test_a_field_we_do_not_know_is_kept_and_written_out_again() -> None:
    newer = {"label": "crack", "confidence": 0.9, "margin": 0.8, "bundle": DIGEST, "heat_map": {"cells": 9}}
    record = decode(Decision, json.dumps(newer))
    assert json.loads(encode(record))["heat_map"] == {"cells": 9}


def test_the_same_record_gives_the_same_bytes_whatever_the_order_of_its_fields() -> None:
    one = decode(Decision, json.dumps({"label": "a", "confidence": 1, "margin": 0, "bundle": DIGEST}))
    two = decode(Decision, json.dumps({"bundle": DIGEST, "margin": 0.0, "confidence": 1.0, "label": "a"}))
    assert encode(one) == encode(two)
    assert record_digest(one) == record_digest(two)


def test_a_record_cannot_be_changed_after_birth() -> None:
    record = Decision(label="a", confidence=1, margin=0, bundle=DIGEST)
    with pytest.raises(ValueError, match="frozen"):
        record.label = "b"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("not json", "JSON"),
        ("[]", "Decision"),
        ('{"label": "a", "confidence": 7, "margin": 0, "bundle": "x"}', "confidence"),
    ],
)
def test_what_is_not_the_record_is_refused_with_field_and_value(text: str, names: str) -> None:
    with pytest.raises(NotValid, match=names):
        decode(Decision, text)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="timezone"):
        Report(at=datetime(2026, 1, 1), phase="idle")


def test_the_envelope_uses_the_names_of_its_standard() -> None:
    envelope = Envelope(payloadType="text", payload="eA==", signatures=())
    assert set(json.loads(encode(envelope))) == {"payloadType", "payload", "signatures"}
    assert decode(Envelope, encode(envelope)) == envelope


def test_a_release_number_starts_at_one() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        Release(id="a@0", use_case="a", version=0, bundles={}, approved_by="x", created_at=NOW)


@given(st.lists(st.binary(max_size=200), max_size=SEGMENTS_MAX))
def test_an_upload_comes_back_as_it_was_packed(payloads: list[bytes]) -> None:
    head = header([len(payload) for payload in payloads], payloads)
    assert unpack_upload(pack_upload(head, payloads)) == (head, payloads)


@given(st.data())
def test_a_damaged_upload_is_refused_or_still_whole_but_never_crashes(data: st.DataObject) -> None:
    payloads = [b"one", b"three"]
    body = pack_upload(header([3, 5], payloads), payloads)
    at = data.draw(st.integers(0, len(body) - 1))
    kind = data.draw(st.sampled_from(["cut", "flip", "add"]))
    damaged = {"cut": body[:at], "flip": body[:at] + bytes([body[at] ^ 0xFF]) + body[at + 1 :], "add": body + b"x"}[
        kind
    ]
    try:
        head, found = unpack_upload(damaged)
    except NotValid:
        return
    assert [len(item) for item in found] == [segment.size_bytes for segment in head.segments]


def test_a_header_that_claims_gigabytes_is_refused_before_it_is_read() -> None:
    with pytest.raises(NotValid, match="at most"):
        unpack_upload(b"EWU1" + b"\xff\xff\xff\xff")


def test_payloads_must_have_the_sizes_that_the_header_names() -> None:
    with pytest.raises(NotValid, match="sizes"):
        pack_upload(header([4], [b"four"]), [b"seven!!"])


@pytest.mark.parametrize(
    ("op", "value", "seen", "holds"),
    [
        ("eq", 3, 3, True),
        ("ne", 3, 3, False),
        ("lt", 3, 2, True),
        ("le", 3, 3, True),
        ("gt", 3, 3, False),
        ("ge", 3, 3, True),
        ("in", ["wifi", "wired"], "wifi", True),
        ("not_in", ["wifi"], "lte", True),
        ("lt", 3, "text", False),
    ],
)
def test_a_condition_holds_or_says_what_it_needs(op: str, value: object, seen: object, holds: bool) -> None:
    condition = Condition.model_validate({"fact": "x", "op": op, "value": value})
    assert (unmet([condition], {"x": seen}) == []) is holds


def test_a_fact_that_nobody_reports_never_fulfils_a_condition() -> None:
    assert unmet([Condition(fact="battery", op="ne", value=0)], {}) == ["battery is not reported, needs ne 0"]


def test_nan_has_no_canonical_form() -> None:
    with pytest.raises(NotValid, match="canonical"):
        canonical({"x": float("nan")})


def test_each_family_of_errors_has_its_own_exit_code() -> None:
    assert [family("x").exit_code for family in (NotValid, NotTrusted, NotNow)] == [2, 3, 4]


def test_a_use_case_refuses_a_word_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="Extra inputs"):
        UseCase.model_validate({"name": "a", "app": "factory", "colour": "red"})
