"""Nothing is kept that cannot be made private, and recent frames are bounded and unreadable in memory."""

from __future__ import annotations

import importlib.resources
import io
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgewise.edge._cold import plain_embedding
from edgewise.edge._counts import Counts, Windows
from edgewise.edge.private import Chosen, private_entry, sample_id
from edgewise.edge.ring import Ring
from edgewise.frames import Decided
from edgewise.measure import Histogram
from edgewise.policy import Forbidden
from edgewise.ports import Frame
from edgewise.wire import DataPolicy, Decision, FoundBox, NotValid, PrivateSettings, canonical, digest, plain

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SAID = Decision(label="a", confidence=1, margin=1, bundle="0" * 64)


def picture(text: str = "a person's name") -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3))
    exif = Image.Exif()
    exif[0x9286] = text
    image.save(file, "JPEG", exif=exif)
    return file.getvalue()


def frame(data: bytes, media_type: str = "image/jpeg", **facts) -> Frame:
    return Frame(name="f1", data=data, media_type=media_type, taken_at=NOW, group="g1", facts=facts)


def made(policy: DataPolicy, shot: Frame, why: str = "margin"):
    chosen = Chosen(frame=shot, why=why, inclusion_probability=1.0, decision=SAID)
    return private_entry(chosen, policy=policy, device="d1", site="north", name_key=b"k" * 32, now=NOW)


def test_what_is_queued_went_through_the_policys_transforms():
    entry = made(
        DataPolicy(transforms=("strip-metadata", "grey"), fields=("line",)), frame(picture(), line=4, who="Ada")
    )
    assert entry.transform == "strip-metadata+grey"
    assert b"person" not in entry.content
    assert Image.open(io.BytesIO(entry.content)).mode == "L"
    assert entry.record.blob == digest(entry.content)
    assert entry.record.facts == {"line": 4}
    assert (entry.record.group, entry.record.taken_at) == ("", NOW)
    assert len(entry.record.frame) == 64


@pytest.mark.parametrize("data", [b"no picture", b""])
def test_what_cannot_be_made_private_cannot_be_kept(data):
    with pytest.raises(NotValid):
        made(DataPolicy(), frame(data))


def test_a_class_that_may_not_leave_is_not_even_made():
    with pytest.raises(Forbidden):
        made(DataPolicy(leave=("telemetry",)), frame(picture()))


def test_the_same_frame_has_one_id_for_each_kind_of_reason():
    assert sample_id("d1", "f1", "margin") == sample_id("d1", "f1", "novelty")
    assert len({sample_id("d1", "f1", why) for why in ("margin", "audit", "disagreement", "feedback", "alarm")}) == 5
    assert sample_id("d1", "f1", "audit") != sample_id("d2", "f1", "audit")


@given(st.lists(st.integers(0, 60), max_size=30))
def test_the_ring_never_holds_more_than_its_bound_and_keeps_the_newest(sizes):
    ring = Ring(bytes_max=200, key=bytes(32))
    for number, size in enumerate(sizes):
        ring.put(Frame(name=f"f{number}", data=bytes([number]) * size, media_type="x", taken_at=NOW))
        assert ring.bytes_held <= 200
        kept = ring.get(f"f{number}")
        assert kept is not None
        assert kept.data == bytes([number]) * size


def test_frames_lie_encrypted_in_memory_and_a_frame_over_the_bound_is_left_out():
    ring = Ring(bytes_max=1000, key=b"k" * 32)
    ring.put(Frame(name="f1", data=b"secret" * 20, media_type="x", taken_at=NOW))
    assert all(b"secret" not in sealed.data for lane in ring._lanes.values() for sealed in lane.frames.values())
    ring.put(Frame(name="f2", data=b"x" * 2000, media_type="x", taken_at=NOW))
    assert ring.get("f2") is None
    assert ring.get("f1").data == b"secret" * 20


def test_a_frame_comes_back_from_the_ring_as_it_was_put():
    ring = Ring(bytes_max=1000, key=b"k" * 32)
    shot = frame(b"pixels", "image/png", spindle="7", rpm=1200.0)
    ring.put(shot, "main")
    assert ring.get("f1") == shot
    seen = []
    assert ring.forget(lambda one: seen.append(one) or one.group == "g1") == 1
    assert seen == [shot._replace(data=b"")]
    assert (ring.get("f1"), ring.newest(), ring.bytes_held) == (None, None, 0)


def test_counts_are_additive_and_survive_their_plain_form():
    windows, twice = Windows(), Windows()
    for number in range(7):
        latency = Histogram()
        latency.add(float(number + 1))
        windows.of(("r", "b" * 64, None)).add([Decided.of(SAID)], 10, latency, (NOW, NOW))
    for _ in range(2):
        twice.merge(Windows.from_plain(windows.plain()))
    assert twice.decisions == 14
    (record,) = twice.telemetry(ids=["0" * 32], site="north", shed={})
    assert (record.decisions, record.bytes_decided, record.labels) == (14, 140, {"a": 14})
    assert record.latency_ms["p50"] == pytest.approx(4, rel=0.05)
    empty = Counts()
    empty.merge(Counts())
    assert empty.start is None


def test_a_frame_looks_like_something_even_without_a_bundle():
    assert plain_embedding(frame(picture())).shape == (100,)
    assert plain_embedding(frame(b'{"a": 1, "b": 2.5, "c": "text"}', "application/json")).tolist() == [1, 2.5]
    assert plain_embedding(frame(b"no picture")) is None
    assert plain_embedding(frame(b"[1]", "application/json")) is None


def test_a_frame_with_a_face_is_not_kept_and_its_reason_is_counted_by_name():
    pytest.importorskip("cv2", reason="the extra `camera` brings OpenCV")
    pytest.importorskip("skimage", reason="the extra `bench` brings scikit-image and its photographs")
    data = (importlib.resources.files("skimage") / "data" / "astronaut.png").read_bytes()
    policy = DataPolicy(data_class="person-image", transforms=("strip-metadata", "downscale", "drop-faces"))
    with pytest.raises(NotValid) as refused:
        made(policy.model_copy(update={"private": PrivateSettings(side_max=256)}), frame(data, "image/png"))
    assert refused.value.code == "face_found"
    tiny = PrivateSettings(side_max=16)  # so small that nobody is on it any more
    assert made(policy.model_copy(update={"private": tiny}), frame(data, "image/png")).content


def test_where_things_are_in_a_picture_leaves_only_where_the_policy_lists_it():
    box = FoundBox(label="pit", x1=0.1, y1=0.1, x2=0.2, y2=0.2, score=0.9)
    decision = Decision(label="pit", confidence=0.9, margin=0.8, bundle="0" * 64, boxes=(box,))
    chosen = Chosen(
        frame=frame(picture()), why="disagreement", inclusion_probability=1.0, decision=decision, shadow=decision
    )

    def told(policy: DataPolicy):
        return private_entry(chosen, policy=policy, device="d1", site="north", name_key=b"k" * 32, now=NOW).record

    kept_back = told(DataPolicy())
    assert b"boxes" not in canonical(plain(kept_back))
    assert kept_back.decision.label == "pit"
    listed = told(DataPolicy(fields=("frame", "boxes")))
    assert listed.decision.boxes == listed.shadow.boxes == (box,)
