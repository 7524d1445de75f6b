"""The vision trainer through the one way to train: it learns, exports faithfully, goes on from a base, and repeats."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgewise import delta
from edgewise.frames import golden_inputs, prepare
from edgewise.learn import Cancelled, TrainedBundle, TrainingSample, train
from edgewise.learn._train import check_parity
from edgewise.learn._trainer import Job, trainer_named
from edgewise.ports import OnnxRuntime, StoredBundle, open_pipeline
from edgewise.wire import NotValid


def stored(made: TrainedBundle) -> StoredBundle:
    return StoredBundle(manifest=made.manifest, digest=made.digest, blobs=made.blobs)


def recall(made: TrainedBundle, samples: list[TrainingSample]) -> float:
    """Share of samples whose class the bundle says, run as a device runs it."""
    bundle = stored(made)
    pipeline = open_pipeline(bundle.manifest, bundle.digest, bundle.read_blob, OnnxRuntime())
    said = [pipeline.decide(pipeline.answer(one.read(), one.media_type), None).label for one in samples]
    return float(np.mean([one.label == label for one, label in zip(samples, said, strict=True)]))


def graph_of(bundle: StoredBundle) -> bytes:
    return bundle.read_blob(bundle.manifest.blobs[bundle.manifest.graphs[0].blob].sha256)


@pytest.fixture(scope="module")
def first(world: Any) -> TrainedBundle:
    """A bundle that knows good parts and scratches."""
    samples = world.surfaces(30, labels=("none", "scratch"))
    return train(samples, now=world.now, seed=1, config={"seconds": 2.0})


def test_it_learns_what_it_is_shown(first: TrainedBundle, world: Any) -> None:
    unseen = world.surfaces(12, labels=("none", "scratch"), start=500)
    assert recall(first, unseen) >= 0.85


def test_the_manifest_says_where_the_bundle_comes_from(first: TrainedBundle) -> None:
    manifest = first.manifest
    assert manifest.labels == ("none", "scratch")
    assert (manifest.good_label, manifest.good_labels) == ("none", ("none",))
    assert manifest.provenance.seed == 1
    assert {"torch", "numpy", "onnxruntime", "Pillow", "python"} <= set(manifest.provenance.libraries)
    assert manifest.provenance.data["samples"] == 60
    assert manifest.provenance.data["uncertain"] == "not trained on"
    assert manifest.needs.opset == 17
    assert 0 < manifest.needs.latency_ms < 200
    assert manifest.needs.ram_mb > 1
    assert set(first.blobs) == {blob.sha256 for blob in manifest.blobs.values()}


def test_the_bundle_passes_its_own_golden_test(first: TrainedBundle) -> None:
    bundle = stored(first)
    open_pipeline(bundle.manifest, bundle.digest, bundle.read_blob, OnnxRuntime()).check_golden()


def test_scores_are_probabilities_and_the_embedding_is_float32_for_any_batch(first: TrainedBundle) -> None:
    bundle = stored(first)
    pipeline = open_pipeline(bundle.manifest, bundle.digest, bundle.read_blob, OnnxRuntime())
    inputs = golden_inputs(pipeline.graph.pre, 3, 5)
    scores, embedding = pipeline.run_prepared(inputs)
    assert np.allclose(scores.sum(axis=1), 1, atol=1e-5)
    assert embedding is not None
    assert embedding.dtype == np.float32
    alone = [pipeline.run_prepared(inputs[index : index + 1])[0][0] for index in range(5)]
    assert np.allclose(scores, alone, atol=1e-5)


def test_the_same_seed_makes_the_same_network_and_another_seed_another(world: Any) -> None:
    samples = world.surfaces(6)
    made = [train(samples, now=world.now, seed=seed, config=world.small) for seed in (7, 7, 8)]
    graphs = [set(one.blobs) for one in made]
    assert graphs[0] == graphs[1]
    assert graphs[0] != graphs[2]
    assert made[0].manifest.golden == made[1].manifest.golden


def test_a_base_keeps_its_classes_in_their_places_and_what_it_knows(first: TrainedBundle, world: Any) -> None:
    old = world.surfaces(30, labels=("none", "scratch"))
    new = world.surfaces(12, labels=("spot",), new=True)
    made = train(old + new, now=world.now, base=stored(first), seed=2, config={"seconds": 2.0})
    assert made.manifest.labels == ("none", "scratch", "spot")
    assert made.manifest.provenance.parent == first.digest
    assert made.manifest.provenance.data["warm_start"] is True
    assert recall(made, world.surfaces(12, labels=("none", "scratch"), start=500)) >= 0.85
    assert recall(made, world.surfaces(12, labels=("spot",), start=500)) >= 0.7


def test_a_warm_start_begins_with_the_answers_of_the_base(first: TrainedBundle, world: Any) -> None:
    from edgewise.learn._vision import _network

    base = stored(first)
    samples = tuple(world.surfaces(2))
    network, warm = _network(Job(samples=samples, labels=("none", "scratch", "spot"), base=base))
    assert warm
    pipeline = open_pipeline(base.manifest, base.digest, base.read_blob, OnnxRuntime())
    inputs = np.stack([prepare(one.read(), one.media_type, pipeline.graph.pre) for one in samples])
    _, embedding = pipeline.run_prepared(inputs)
    import torch

    with torch.no_grad():
        ours = network.eval().embed(network.front(torch.from_numpy(inputs))).numpy()
    assert np.abs(ours - embedding).max() < 1e-3


@pytest.mark.parametrize(("count", "seconds"), [(4, 0.4), (24, 1.5)], ids=["few", "more"])
def test_a_snapped_fine_tune_is_cheap_to_send_and_as_good(world: Any, count: int, seconds: float) -> None:
    base = stored(train(world.surfaces(count), now=world.now, config={"seconds": seconds}))
    tuned = world.surfaces(count) + world.surfaces(4, start=100, new=True)
    made = {
        snap: train(tuned, now=world.now, base=base, seed=3, config={"seconds": seconds, "snap": snap})
        for snap in (False, True)
    }
    sizes = {snap: len(delta.encode(graph_of(base), graph_of(stored(one)))) for snap, one in made.items()}
    assert sizes[True] < 0.45 * sizes[False], sizes
    assert {snap: one.manifest.provenance.data["snapped"] for snap, one in made.items()} == {False: False, True: True}
    test = world.surfaces(70, start=500)
    assert recall(made[True], test) >= recall(made[False], test) - 0.005
    # What is signed is what was snapped: the golden scores are its own, and training compared it with the graph.
    snapped = stored(made[True])
    open_pipeline(snapped.manifest, snapped.digest, snapped.read_blob, OnnxRuntime()).check_golden()
    assert made[True].metrics["parity"] < 1e-4


def test_without_a_base_there_is_nothing_to_snap(world: Any) -> None:
    made = train(world.surfaces(6), now=world.now, config={**world.small, "snap": True})
    assert made.manifest.provenance.data["snapped"] is False
    with pytest.raises(NotValid, match="snap is 'yes'"):
        train(world.surfaces(6), now=world.now, config={**world.small, "snap": "yes"})


def test_a_base_of_another_make_is_not_an_error(world: Any, table: Any) -> None:
    from edgewise.learn import read_dataset

    other = train(read_dataset(table).samples, now=world.now, trainer="tabular")
    made = train(world.surfaces(6), now=world.now, base=stored(other), config=world.small)
    assert made.manifest.provenance.data["warm_start"] is False
    assert made.manifest.labels[:2] == other.manifest.labels


def test_an_export_that_answers_differently_is_refused(world: Any) -> None:
    job = Job(samples=tuple(world.surfaces(4)), labels=world.labels, config=world.small)
    fitted = trainer_named("vision").fit(job)
    session = OnnxRuntime().open(fitted.graph)
    golden = golden_inputs(fitted.pre, 1, 2)
    assert check_parity(fitted, session, golden) < 1e-4

    def wrong(inputs: Any) -> Any:
        scores, embedding = fitted.reference(inputs)
        return scores + 0.01, embedding

    with pytest.raises(NotValid, match="differs from the trained network"):
        check_parity(replace(fitted, reference=wrong), session, golden)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_network_that_answers_with_no_number_is_refused(world: Any, value: float) -> None:
    job = Job(samples=tuple(world.surfaces(4)), labels=world.labels, config=world.small)
    fitted = trainer_named("vision").fit(job)

    def spoiled(inputs: Any) -> Any:
        scores, embedding = fitted.reference(inputs)
        return np.full_like(scores, value), embedding

    with pytest.raises(NotValid, match="what is no number") as caught:
        check_parity(
            replace(fitted, reference=spoiled), OnnxRuntime().open(fitted.graph), golden_inputs(fitted.pre, 1, 2)
        )
    assert caught.value.code == "scores_not_finite"


def test_uncertain_samples_are_not_trained_on(world: Any) -> None:
    samples = world.surfaces(6)
    doubtful = [replace(one, uncertain=True, label="spot") for one in world.surfaces(6, labels=("none",), start=50)]
    with_them = train(samples + doubtful, now=world.now, seed=3, config=world.small)
    without = train(samples, now=world.now, seed=3, config=world.small)
    assert set(with_them.blobs) == set(without.blobs)
    assert with_them.manifest.provenance.data["uncertain_samples"] == 6


def test_a_few_unreadable_pictures_are_left_out_and_named(world: Any) -> None:
    samples = world.surfaces(10)
    samples[4] = replace(samples[4], read=world.reader(b"no picture"))
    made = train(samples, now=world.now, config=world.small)
    assert made.manifest.provenance.data["unreadable_samples"] == 1
    assert samples[4].name in made.manifest.card


def test_many_unreadable_pictures_are_refused(world: Any) -> None:
    samples = [
        replace(one, read=world.reader(b"no picture")) if n % 4 == 0 else one for n, one in enumerate(world.surfaces(8))
    ]
    with pytest.raises(NotValid, match=r"6 of 24 samples cannot be decoded, first none-0\.png"):
        train(samples, now=world.now, config=world.small)
    with pytest.raises(NotValid, match="none of the 2 pictures"):
        train(
            [replace(one, read=world.reader(b"")) for one in world.surfaces(1, labels=("none", "spot"))], now=world.now
        )


def test_one_class_is_refused(world: Any) -> None:
    with pytest.raises(NotValid, match="only one class, 'none'"):
        train(world.surfaces(4, labels=("none",)), now=world.now)
    with pytest.raises(NotValid, match="no certain labelled samples"):
        train([], now=world.now)


@pytest.mark.parametrize("config", [{"seconds": 0}, {"seconds": "long"}, {"threads": 0}, {"fault": "other"}])
def test_a_wrong_setting_is_refused(config: dict[str, Any], world: Any) -> None:
    with pytest.raises(NotValid, match=next(iter(config))):
        train(world.surfaces(2), now=world.now, config=config)


def test_a_drill_swaps_good_and_defective_and_says_so(world: Any) -> None:
    made = train(world.surfaces(20), now=world.now, seed=1, config={"seconds": 2.0, "fault": "flip-good"})
    assert made.manifest.provenance.data["fault"] == "flip-good"
    assert recall(made, world.surfaces(8, labels=("none",), start=500)) <= 0.3
    with pytest.raises(NotValid, match="needs good and defective samples"):
        train(world.surfaces(4, labels=("scratch", "spot")), now=world.now, config={"fault": "flip-good"})


def test_training_stops_when_progress_says_so(world: Any) -> None:
    seen: Counter[str] = Counter()

    def stop_early(what: str, share: float) -> None:
        assert 0 <= share <= 1
        seen[what] += 1
        if seen["train"] == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        train(world.surfaces(4), now=world.now, config=world.small, progress=stop_early)
    assert seen["train"] == 3


def test_an_unknown_trainer_is_refused(world: Any) -> None:
    with pytest.raises(NotValid, match="there are anomaly, boxes, forecast, regression, tabular, vision"):
        train(world.surfaces(2), now=world.now, trainer="magic")


def test_the_room_itself_does_not_load_the_heavy_libraries() -> None:
    import subprocess

    code = (
        "import sys, edgewise.learn as l; l.train, l.score, l.read_dataset, l.Worker; "
        "print('torch' in sys.modules, 'sklearn' in sys.modules)"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert seen.split() == ["False", "False"]


def test_a_grouped_part_decides_which_weights_are_kept_where_it_is_asked_for(world: Any) -> None:
    made = train(world.surfaces(20), now=world.now, config={"seconds": 1.0, "validation_share": 0.2})
    assert 6 <= made.manifest.provenance.data["validation_samples"] <= 18
    assert 0 <= made.metrics["validation_recall"] <= 1
    assert len(made.log) == 5
    assert (
        train(world.surfaces(4), now=world.now, config=world.small).manifest.provenance.data["validation_samples"] == 0
    )


def test_training_leaves_the_process_as_it_was(world: Any) -> None:
    import torch

    torch.set_num_threads(2)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(world.surfaces(3), now=world.now, config={"seconds": 0.2})
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.rand(3), expected)


def test_our_optimiser_is_the_known_one() -> None:
    import torch

    from edgewise.learn._adam import Adam

    torch.manual_seed(1)
    start = [torch.randn(4, 3), torch.randn(3)]
    ours, theirs = ([values.clone().requires_grad_() for values in start] for _ in range(2))
    adam = Adam([ours[0]], [ours[1]], decay=0.1)
    groups = [{"params": [theirs[0]], "weight_decay": 0.1}, {"params": [theirs[1]], "weight_decay": 0.0}]
    known = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.99), foreach=False)
    for step in range(20):
        for pair in (ours, theirs):
            ((pair[0].sum(0) * pair[1]).sin().sum() * (step + 1)).backward()
        adam.step(0.01)
        known.step()
        known.zero_grad()
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other, atol=1e-6)


def test_new_samples_weigh_as_much_as_all_the_rest(world: Any) -> None:
    from edgewise.learn._balance import sample_weights

    old = world.surfaces(30, labels=("none",)) + world.surfaces(10, labels=("scratch",))
    new = world.surfaces(5, labels=("spot",), new=True)
    weights = sample_weights(old + new)
    assert weights[40:].sum() == pytest.approx(weights[:40].sum())
    assert weights[:30].sum() / weights[30:40].sum() == pytest.approx((30 / 10) ** 0.5)


def test_more_pictures_than_fit_into_memory_are_refused(world: Any) -> None:
    from edgewise.learn._steps import SAMPLES_MAX

    one, other = world.surfaces(1, labels=("none", "spot"))
    with pytest.raises(NotValid, match="fit into memory"):
        train([one] * SAMPLES_MAX + [other], now=world.now)
