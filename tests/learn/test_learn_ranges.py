"""Ranges of a base's int8 form: kept where they still fit, new where they do not, and never at the cost of answers."""

from __future__ import annotations

from typing import Any

import onnx
import pytest

from edgewise.delta import encode
from edgewise.learn import TrainingSample, make_variants, train
from edgewise.learn._convert import WEIGHED, Quantised, to_int8
from edgewise.learn._ranges import CLIPPED_MAX, WIDTH_MAX, Range, Seen, fits, kept_of, look
from edgewise.learn._train import TrainedBundle
from edgewise.learn._variants import calibration_inputs
from edgewise.ports import StoredBundle

HELD = Range(scale=10 / 255, zero_point=0)  # 0 to 10


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [
        (Seen(clipped=0.0, low=0.0, high=9.0), True),
        (Seen(clipped=CLIPPED_MAX, low=0.0, high=12.0), True),
        (Seen(clipped=1.01 * CLIPPED_MAX, low=0.0, high=12.0), False),
        (Seen(clipped=0.0, low=0.0, high=10.01 / WIDTH_MAX), True),
        (Seen(clipped=0.0, low=0.0, high=9.9 / WIDTH_MAX), False),
        (Seen(clipped=0.0, low=-5.0, high=0.1), True),  # as wide as half of it, whatever the sides
        (Seen(clipped=0.0, low=0.0, high=0.0), False),
    ],
)
def test_a_range_fits_where_it_cuts_off_little_and_is_not_too_wide(seen: Seen, wanted: bool) -> None:
    assert fits(HELD, seen) is wanted


def stored(made: TrainedBundle) -> StoredBundle:
    return StoredBundle(manifest=made.manifest, digest=made.digest, blobs=made.blobs)


def network(bundle: StoredBundle | TrainedBundle) -> bytes:
    return bundle.blobs[bundle.manifest.blobs[bundle.manifest.graphs[0].blob].sha256]


@pytest.fixture(scope="module")
def samples(world: Any) -> list[TrainingSample]:
    return list(world.surfaces(24))


@pytest.fixture(scope="module")
def base(world: Any, samples: list[TrainingSample]) -> StoredBundle:
    return stored(train(samples, now=world.now, seed=1, config={"seconds": 2.0}))


@pytest.fixture(scope="module")
def form(base: StoredBundle, samples: list[TrainingSample]) -> Quantised:
    graph = base.manifest.graphs[0]
    return to_int8(network(base), graph, calibration_inputs(samples, graph.pre))


def test_a_network_that_did_not_change_costs_nothing_on_other_pictures(
    world: Any, base: StoredBundle, form: Quantised
) -> None:
    graph = base.manifest.graphs[0]
    other = calibration_inputs(world.surfaces(12, start=600), graph.pre)
    anew = to_int8(network(base), graph, other)
    assert anew.data != form.data, "calibrated anew, the ranges move"
    again = to_int8(network(base), graph, other, base=form.data)
    assert (again.kept, again.ranges) == (form.ranges, form.ranges)
    assert again.data == form.data


def test_a_range_that_values_left_is_calibrated_anew_and_the_others_stay(
    base: StoredBundle, form: Quantised, samples: list[TrainingSample]
) -> None:
    graph = base.manifest.graphs[0]
    inputs = calibration_inputs(samples, graph.pre)
    held = kept_of(form.data, WEIGHED)
    assert held is not None
    wide = onnx.load_model_from_string(form.data)
    names = {node.input[0]: node.input[1] for node in wide.graph.node if node.op_type == "QuantizeLinear"}
    tensor = sorted(held.ranges)[0]
    scale = next(one for one in wide.graph.initializer if one.name == names[tensor])
    scale.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scale) / 3, scale.name))
    again = to_int8(network(base), graph, inputs, base=wide.SerializeToString())
    assert again.kept == form.ranges - 1
    assert again.data == form.data, "the same pictures give the range that was spoiled"


def test_what_is_no_form_of_this_graph_is_not_looked_at(
    world: Any, base: StoredBundle, form: Quantised, samples: list[TrainingSample]
) -> None:
    graph = base.manifest.graphs[0]
    inputs = calibration_inputs(samples, graph.pre)
    two = [one for one in samples if one.label != "spot"]
    other = stored(train(two, now=world.now, seed=1, config={"seconds": 1.0}))
    of_other = to_int8(network(other), other.manifest.graphs[0], inputs)
    for held in (b"no network", network(base), of_other.data):
        again = to_int8(network(base), graph, inputs, base=held)
        assert (again.kept, again.data) == (0, form.data)


def test_values_are_counted_beside_a_range(base: StoredBundle, form: Quantised, samples: list[TrainingSample]) -> None:
    graph = base.manifest.graphs[0]
    inputs = calibration_inputs(samples, graph.pre)
    held = kept_of(form.data, WEIGHED)
    assert held is not None
    model = onnx.load_model_from_string(network(base))
    name = next(one for one in held.ranges if one in {out for node in model.graph.node for out in node.output})
    half = {name: Range(scale=held.ranges[name].scale / 2, zero_point=held.ranges[name].zero_point)}
    assert look(model, graph.input, inputs, {name: held.ranges[name]})[name].clipped == 0
    assert 0 < look(model, graph.input, inputs, half)[name].clipped < 1
    seen = look(model, graph.input, inputs, {graph.input: HELD})[graph.input]
    assert (seen.low, seen.high) == (min(0.0, float(inputs.min())), max(0.0, float(inputs.max())))


def test_a_warm_start_keeps_what_fits_and_says_so(
    world: Any, base: StoredBundle, samples: list[TrainingSample]
) -> None:
    before = make_variants(base, ["int8"], samples).made["int8"]
    assert before.manifest.provenance.data["ranges_kept"] == 0
    new = stored(train(samples, now=world.now, seed=2, base=base, config={"seconds": 0.3, "learning_rate": 1e-5}))
    anew = make_variants(new, ["int8"], samples).made["int8"]
    kept = make_variants(new, ["int8"], samples, base_int8=stored(before)).made["int8"]
    told = kept.manifest.provenance.data
    assert told["ranges"] == told["ranges_kept"]
    assert len(encode(network(before), network(kept))) < len(encode(network(before), network(anew)))
    assert kept.metrics["shift"] < 0.05
    stranger = make_variants(base, ["int8"], samples, base_int8=stored(before)).made["int8"]
    assert stranger.manifest.provenance.data["ranges_kept"] == 0, "it is no form of what this was trained from"
