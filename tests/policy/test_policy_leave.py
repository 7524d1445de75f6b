"""Nothing leaves unless the policy allows it (invariant 4), on the device and again at the hub."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.policy import (
    Forbidden,
    check_contents,
    check_segment,
    frame_name,
    may_leave,
    private_facts,
    required_transform,
)
from edgewise.wire import (
    CLASSES,
    AnyRecord,
    DataPolicy,
    Decision,
    Event,
    Exit,
    Feedback,
    NotValid,
    Sample,
    SegmentHeader,
    Telemetry,
    digest,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BLOB, ID = digest(b"picture"), "0" * 32
GREY = DataPolicy(version=3, transforms=("strip-metadata", "grey"))
ROWS = DataPolicy(version=3, data_class="measurement", transforms=())


def header(**change: Any) -> SegmentHeader:
    fields = {"number": 1, "sha256": digest(b""), "size_bytes": 9, "record_class": "sample", "count": 1}
    more = {"policy_version": 3, "transform": "strip-metadata+grey", "blobs": (BLOB,), "sealed_at": NOW}
    return SegmentHeader.model_validate({**fields, **more, **change})


def sample(**change: Any) -> Sample:
    said = Decision(label="none", confidence=0.9, margin=0.8, bundle=digest(b"bundle"))
    fields = {"id": ID, "frame": "part-7.jpg", "site": "a", "taken_at": NOW, "kept_at": NOW, "why": "margin"}
    more = {"inclusion_probability": 0.5, "blob": BLOB, "size_bytes": 9, "media_type": "image/jpeg", "decision": said}
    return Sample.model_validate({**fields, **more, **change})


EVENT = Event(id=ID, at=NOW, what="start", text="")
FEEDBACK = Feedback(id=ID, frame="f", site="a", given_at=NOW, verdict="wrong")
NO_CONTENT = {"blobs": (), "transform": "none"}


@pytest.mark.parametrize("kind", [*CLASSES, "report"])
def test_what_the_policy_does_not_list_does_not_leave(kind: str) -> None:
    may_leave(DataPolicy(), kind)
    listed = tuple(item for item in DataPolicy().leave if item != ("sample" if kind == "audit_sample" else kind))
    with pytest.raises(Forbidden) as refused:
        may_leave(DataPolicy(leave=listed), kind)
    assert refused.value.code == "class_forbidden"
    assert isinstance(refused.value, NotValid)
    with pytest.raises(Forbidden):
        may_leave(DataPolicy(leave=()), "raw")


@pytest.mark.parametrize(
    ("exit_", "by_default"),
    [
        ("deferral", False),
        ("sink", False),
        ("log", False),
        ("courier", True),
        ("local-api", True),
    ],
)
def test_every_way_out_asks_the_policy_and_new_ones_are_closed_until_listed(exit_: Exit, by_default: bool) -> None:
    may_leave(DataPolicy(leave=(exit_,)), exit_)
    with pytest.raises(Forbidden):
        may_leave(DataPolicy(leave=()), exit_)
    if by_default:
        may_leave(DataPolicy(), exit_)
    else:
        with pytest.raises(Forbidden):
            may_leave(DataPolicy(), exit_)


@pytest.mark.parametrize(
    ("policy", "segment"),
    [
        (GREY, header()),
        (GREY, header(record_class="audit_sample")),
        (GREY, header(record_class="disagreement")),
        (GREY, header(record_class="alarm")),
        (GREY, header(record_class="alarm", **NO_CONTENT)),
        (GREY, header(record_class="feedback", **NO_CONTENT)),
        (GREY, header(record_class="audit", **NO_CONTENT)),
        (GREY, header(record_class="telemetry", **NO_CONTENT)),
        (DataPolicy(version=3, transforms=()), header(transform="none")),
        (ROWS, header(transform="none")),
    ],
)
def test_a_segment_that_keeps_to_the_policy_may_leave(policy: DataPolicy, segment: SegmentHeader) -> None:
    check_segment(policy, segment)


@pytest.mark.parametrize(
    ("policy", "segment", "code"),
    [
        (GREY, header(policy_version=2), "policy_unknown"),
        (GREY, header(policy_version=4), "policy_unknown"),
        (GREY, header(transform="none"), "transform_missing"),
        (GREY, header(transform="strip-metadata"), "transform_missing"),
        (GREY, header(transform="grey+strip-metadata"), "transform_missing"),  # the order is part of it
        (GREY, header(transform="none", blobs=()), "transform_missing"),
        (GREY, header(record_class="alarm", transform="none"), "transform_missing"),
        (GREY, header(record_class="feedback", transform="none"), "transform_missing"),
        (GREY, header(record_class="telemetry"), "content_forbidden"),
        (GREY, header(record_class="audit"), "content_forbidden"),
        (ROWS, header(), "transform_missing"),
        (GREY.model_copy(update={"leave": ("telemetry",)}), header(), "class_forbidden"),
    ],
)
def test_any_other_segment_is_refused(policy: DataPolicy, segment: SegmentHeader, code: str) -> None:
    with pytest.raises(Forbidden) as refused:
        check_segment(policy, segment)
    assert refused.value.code == code


def test_a_segment_sealed_under_an_earlier_policy_needs_that_ones_transform_and_todays_permission() -> None:
    earlier = DataPolicy(version=2)
    old = header(policy_version=2, transform="strip-metadata")
    check_segment(GREY, old, earlier=[earlier])
    with pytest.raises(Forbidden):
        check_segment(GREY, header(policy_version=2, transform="none"), earlier=[earlier])
    with pytest.raises(Forbidden):
        check_segment(GREY.model_copy(update={"leave": ("telemetry",)}), old, earlier=[earlier])


OTHER_BLOB = digest(b"other")


@pytest.mark.parametrize(
    ("policy", "segment", "records"),
    [
        (GREY, header(), [sample(), sample(group="g")]),
        (GREY, header(record_class="alarm"), [sample(), EVENT]),
        (GREY, header(record_class="feedback", **NO_CONTENT), [FEEDBACK]),
        (GREY, header(record_class="audit", **NO_CONTENT), [EVENT]),
        (ROWS, header(transform="none"), [sample(media_type="application/json")]),
    ],
)
def test_records_that_keep_to_their_header_may_stay(
    policy: DataPolicy, segment: SegmentHeader, records: list[AnyRecord]
) -> None:
    check_contents(policy, segment, records)


@pytest.mark.parametrize(
    ("policy", "segment", "records", "code"),
    [
        (GREY, header(), [sample(blob=OTHER_BLOB)], "content_forbidden"),
        # A frame smuggled under an alarm whose header says that it holds none.
        (GREY, header(record_class="alarm", **NO_CONTENT), [sample()], "content_forbidden"),
        (GREY, header(), [EVENT], "content_forbidden"),
        (GREY, header(), [sample(media_type="application/json")], "content_forbidden"),
        (ROWS, header(transform="none"), [sample()], "content_forbidden"),  # a picture is no measurement
        (GREY, header(), [sample(facts={"operator": "A. Person"})], "fields_forbidden"),
        (GREY.model_copy(update={"fields": ("frame",)}), header(), [sample(group="g")], "fields_forbidden"),
        (GREY.model_copy(update={"fields": ()}), header(), [sample()], "fields_forbidden"),
        (
            GREY.model_copy(update={"leave": ("alarm",)}),
            header(record_class="alarm", **NO_CONTENT),
            [FEEDBACK],
            "class_forbidden",
        ),
    ],
)
def test_records_that_do_not_are_refused(
    policy: DataPolicy, segment: SegmentHeader, records: list[AnyRecord], code: str
) -> None:
    with pytest.raises(Forbidden) as refused:
        check_contents(policy, segment, records)
    assert refused.value.code == code


def test_telemetry_may_ride_in_an_audit_segment_only_where_telemetry_may_leave() -> None:
    record = Telemetry(id=ID, site="a", start=NOW, end=NOW, decisions=1)
    segment = header(record_class="audit", **NO_CONTENT)
    check_contents(GREY, segment, [record])
    with pytest.raises(Forbidden):
        check_contents(GREY.model_copy(update={"leave": ("audit",)}), segment, [record])


def test_what_cannot_be_made_private_cannot_be_kept() -> None:
    assert required_transform(GREY, "image/png") == "strip-metadata+grey"
    assert required_transform(DataPolicy(transforms=()), "image/png") == "none"
    assert required_transform(ROWS, "application/json") == "none"
    assert required_transform(DataPolicy(data_class="measurement"), "application/json") == "strip-metadata"
    for policy, media_type in ((GREY, "application/json"), (GREY, ""), (ROWS, "image/png")):
        with pytest.raises(Forbidden):
            required_transform(policy, media_type)


names = st.sampled_from(["frame", "group", "line", "operator", "shift"])
values = st.text(max_size=3) | st.integers() | st.booleans() | st.none() | st.lists(st.integers(), max_size=2)


@given(fields=st.lists(names, unique=True), facts=st.dictionaries(names, values))
def test_only_listed_plain_facts_travel(fields: list[str], facts: dict[str, Any]) -> None:
    kept = private_facts(DataPolicy(fields=tuple(fields)), facts)
    assert set(kept) <= set(fields)
    assert all(facts[name] == value and isinstance(value, str | int | bool) for name, value in kept.items())
    assert private_facts(DataPolicy(fields=tuple(fields)), kept) == kept


def test_a_hidden_frame_name_is_a_keyed_hash_that_the_hub_accepts() -> None:
    hidden = GREY.model_copy(update={"fields": ()})
    name = frame_name(hidden, "A. Person.jpg", bytes(16))
    assert name != frame_name(hidden, "A. Person.jpg", bytes(15) + b"x")
    check_contents(hidden, header(), [sample(frame=name)])
    assert frame_name(GREY, "part-7.jpg", b"") == "part-7.jpg"
    with pytest.raises(NotValid):
        frame_name(hidden, "A. Person.jpg", b"short")


NOISE = {"epsilon_per_day": 0.8, "sends_per_day": 2, "clip": 3.0}
NOISY = DataPolicy.model_validate({"version": 3, "private": {"sums_noise": NOISE}})


def sums(applied: dict[str, Any] | None, **more: Any) -> Event:
    noise = {} if applied is None else {"noise": applied}
    data = {"norms": [{"count": 9}, {"count": 9}]} | noise | more
    return Event(id=ID, at=NOW, what="channel_sums", text="", data=data)


PART = {"clip": 3.0, "values_per_frame": 1, "total_deviation": 40.0, "square_deviation": 40.0}


def applied(**change: Any) -> dict[str, Any]:
    return {"mechanism": "gaussian", "unit": "frame", "epsilon": 0.4, "delta": 1e-6, "parts": [PART, PART]} | change


def test_sums_by_channel_with_the_noise_that_the_policy_asks_for_may_stay() -> None:
    segment = header(record_class="telemetry", **NO_CONTENT)
    check_contents(NOISY, segment, [sums(applied()), sums(applied(epsilon=0.1)), EVENT])
    check_contents(GREY, segment, [sums(None, evidence=9.0), sums(applied())])


@pytest.mark.parametrize(
    "event",
    [
        sums(None),
        sums({}),
        sums(applied(mechanism="none")),
        sums(applied(epsilon=0.8)),
        sums(applied(epsilon=float("nan"))),
        sums(applied(delta=0.1)),
        sums(applied(), evidence=3001.0),
        sums(applied(parts=[PART])),
        sums(applied(parts=[])),
        sums(applied(parts=[PART, PART | {"clip": 4.0}])),
        sums(applied(parts=[PART, PART | {"total_deviation": 0}])),
    ],
)
def test_sums_by_channel_without_it_are_refused_in_whatever_class_they_come(event: Event) -> None:
    for record_class in ("telemetry", "audit", "alarm"):
        with pytest.raises(Forbidden) as refused:
            check_contents(NOISY, header(record_class=record_class, **NO_CONTENT), [EVENT, event])
        assert refused.value.code == "noise_missing"
