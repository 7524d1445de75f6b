"""Robustness: harms that are the same each time, what they cost a bundle, and two bundles compared under each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgewise.frames import decode_image
from edgewise.frames.harm import HARMS, harmed
from edgewise.learn import TrainingSample, make_variants, robustness, train
from edgewise.learn._task import Made, Task, do
from edgewise.ports import StoredBundle
from edgewise.wire import DatasetRevision, LabelledSample, NotValid, Order, Robustness, digest


def by_harm(found: Robustness) -> dict[str, Any]:
    return {one.harm: one.model_dump(exclude_none=True) for one in found.harms}


def stored(made: Any) -> StoredBundle:
    return StoredBundle(manifest=made.manifest, digest=made.digest, blobs=made.blobs)


@pytest.fixture(scope="module")
def bundle(world: Any) -> StoredBundle:
    return stored(train(world.surfaces(24), now=world.now, seed=1, config={"architecture": "small", "steps": 200}))


@pytest.mark.parametrize("kind", list(HARMS))
@pytest.mark.parametrize("channels", [1, 3])
def test_a_harm_is_the_same_each_time_keeps_the_size_and_changes_the_picture(
    world: Any, kind: str, channels: int
) -> None:
    data = world.surface("spot", 3)
    once = harmed(data, kind, channels=channels)
    assert once == harmed(data, kind, channels=channels)
    before, after = (decode_image(one, channels=channels).astype(float) for one in (data, once))  # type: ignore[arg-type]
    assert before.shape == after.shape
    assert np.abs(before - after).mean() > 1


def test_each_harm_does_what_it_says(world: Any) -> None:
    data = world.surface("none", 5)
    before = decode_image(data, channels=1).astype(float)[..., 0]
    after = {kind: decode_image(harmed(data, kind, channels=1), channels=1).astype(float)[..., 0] for kind in HARMS}
    assert after["darker"].mean() == pytest.approx(0.6 * before.mean(), rel=0.02)
    assert after["contrast"].std() == pytest.approx(0.5 * before.std(), rel=0.05)
    assert np.diff(after["blur"]).std() < 0.6 * np.diff(before).std()
    assert (after["noise"] - before).std() == pytest.approx(0.06 * 255, rel=0.1)
    sides = after["light from one side"] - before
    assert sides[:, -5:].mean() - sides[:, :5].mean() > 60


def test_what_a_harm_costs_is_paired_with_the_clean_pictures(bundle: StoredBundle, world: Any) -> None:
    unseen = world.surfaces(12, start=400)
    found = by_harm(robustness({"fp32": bundle}, unseen)["fp32"])
    assert list(found) == ["none", *HARMS]
    assert found["none"]["macro_recall"]["value"] > 0.8
    for kind in HARMS:
        told = found[kind]
        expected = found["none"]["macro_recall"]["value"] - told["macro_recall"]["value"]
        assert told["loss"]["value"] == pytest.approx(expected)
        assert "behind" not in told
    assert max(found[kind]["loss"]["value"] for kind in HARMS) > 0.02, {kind: found[kind]["loss"] for kind in HARMS}


def test_two_bundles_are_compared_on_the_same_pictures(bundle: StoredBundle, world: Any) -> None:
    unseen = world.surfaces(8, start=400)
    smaller = stored(make_variants(bundle, ["fp16"], world.surfaces(8)).made["fp16"])
    found = {name: by_harm(one) for name, one in robustness({"fp32": bundle, "fp16": smaller}, unseen).items()}
    for kind in ("none", *HARMS):
        behind = found["fp16"][kind]["behind"]
        gap = found["fp32"][kind]["macro_recall"]["value"] - found["fp16"][kind]["macro_recall"]["value"]
        assert behind["value"] == pytest.approx(gap)
        assert behind["n"] == len(unseen)


def test_so_many_pictures_at_most_whatever_their_order(bundle: StoredBundle, world: Any) -> None:
    unseen = world.surfaces(8, start=400)
    one = robustness({"a": bundle}, unseen, samples_max=10)
    assert (one["a"].samples, one["a"].unreadable, one["a"].harms[0].macro_recall.n) == (10, 0, 10)
    assert one == robustness({"a": bundle}, unseen[::-1], samples_max=10)


def test_what_cannot_be_is_said(bundle: StoredBundle) -> None:
    with pytest.raises(NotValid, match="there is no harm 'rain'; there are blur, darker"):
        harmed(b"", "rain")
    with pytest.raises(NotValid, match="needs a bundle and labelled pictures"):
        robustness({}, [])
    broken = TrainingSample(name="a", label="none", group="", read=lambda: b"no picture", media_type="image/png")
    found = robustness({"a": bundle}, [broken])["a"]
    assert (found.samples, found.unreadable, found.harms[0].macro_recall.value) == (1, 1, None)


def test_pictures_that_cannot_be_read_are_counted_and_harm_nothing_else(bundle: StoredBundle, world: Any) -> None:
    unseen = world.surfaces(8, start=400)
    broken = [
        TrainingSample(name=name, label="none", group=name, read=lambda: b"no picture", media_type="image/png")
        for name in ("x", "y")
    ]
    whole, rest = robustness({"a": bundle}, [*unseen, *broken])["a"], robustness({"a": bundle}, unseen)["a"]
    assert (whole.samples, whole.unreadable) == (len(unseen) + 2, 2)
    assert whole.harms == rest.harms


def test_labels_that_mean_good_are_one_class(bundle: StoredBundle, world: Any) -> None:
    unseen = world.surfaces(8, start=400)
    other = [replace(one, label="free") if one.label == "none" else one for one in unseen]
    assert robustness({"a": bundle}, other, good=["none", "free"]) == robustness({"a": bundle}, unseen)
    assert robustness({"a": bundle}, other) != robustness({"a": bundle}, unseen)


def test_a_worker_tells_it_of_candidate_and_variants_where_the_order_asks(world: Any) -> None:
    """No weight of the small network comes from the part that was set aside; the record says so."""
    samples = world.surfaces(16)
    order = Order(
        id="0" * 32,
        use_case="surface",
        revision="1" * 64,
        config={"architecture": "small", "steps": 40, "validation_share": 0.3},
        variants=("fp16",),
        made_at=world.now,
    )
    lines, blobs = [], {}
    for number, sample in enumerate(samples):
        blob = digest(sample.read())
        blobs[blob] = sample.read()
        about = {"sample": f"{number:032x}", "blob": blob, "media_type": sample.media_type}
        lines.append(LabelledSample(**about, label=sample.label, site="a", group=sample.group))
    revision = DatasetRevision(use_case="surface", made_at=world.now, samples=tuple(lines), format=2)

    def made(**changes: Any) -> Made:
        task = Task(order=order.model_copy(update=changes), revision=revision, base=None, now=world.now)
        return do(task, blobs.__getitem__, lambda _what, _share: None)

    told = made(robustness=True)
    assert set(told.robustness) == {told.bundle.digest, told.variants.made["fp16"].digest}
    first = told.robustness[told.bundle.digest]
    assert (first.samples, first.trained_on) == (len(told.bundle.aside), False)
    assert 0 < first.samples < len(samples)
    assert not made().robustness
