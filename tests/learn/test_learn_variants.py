"""Smaller forms of a trained network: near what it says, smaller, the same bytes every time, and never made in vain."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewise.frames import golden_inputs, prepare
from edgewise.learn import Cancelled, TrainedBundle, TrainingSample, make_variants, train
from edgewise.learn._convert import SHIFT_EACH_MAX, to_fp16, to_int8
from edgewise.learn._variants import CALIBRATE_MAX, calibration_inputs, make_variant
from edgewise.plan import variant_faults
from edgewise.ports import OnnxRuntime, Pipeline, StoredBundle, open_pipeline, verify_bundle, write_bundle
from edgewise.wire import Blob, Graph, NotValid, TableSpec, digest, record_digest


def stored(made: TrainedBundle) -> StoredBundle:
    return StoredBundle(manifest=made.manifest, digest=made.digest, blobs=made.blobs)


def opened(made: TrainedBundle | StoredBundle) -> Pipeline:
    bundle = made if isinstance(made, StoredBundle) else stored(made)
    return open_pipeline(bundle.manifest, bundle.digest, bundle.read_blob, OnnxRuntime())


def size(made: TrainedBundle | StoredBundle) -> int:
    return sum(len(data) for data in made.blobs.values())


@pytest.fixture(scope="module")
def samples(world: Any) -> list[TrainingSample]:
    return list(world.surfaces(24))


@pytest.fixture(scope="module")
def source(world: Any, samples: list[TrainingSample]) -> StoredBundle:
    return stored(train(samples, now=world.now, seed=1, config={"seconds": 2.0}))


@pytest.fixture(scope="module")
def variants(source: StoredBundle, samples: list[TrainingSample]) -> dict[str, TrainedBundle]:
    found = make_variants(source, ["fp16", "int8"], samples)
    assert found.left_out == {}
    return dict(found.made)


@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_a_variant_says_nearly_what_the_trained_network_says_on_pictures_that_neither_has_seen(
    source: StoredBundle, variants: dict[str, TrainedBundle], world: Any, name: str
) -> None:
    ours, theirs = opened(variants[name]), opened(source)
    unseen = world.surfaces(10, start=700)
    pairs = [(ours.answer(one.read(), one.media_type), theirs.answer(one.read(), one.media_type)) for one in unseen]
    shifts = [float(np.abs(a.scores - b.scores).max()) for a, b in pairs]
    assert np.mean(shifts) < 0.02
    assert np.mean([a.scores.argmax() == b.scores.argmax() for a, b in pairs]) >= 0.95
    assert variants[name].metrics["shift"] < 0.05


@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_a_variant_is_a_whole_smaller_bundle_with_golden_answers_of_its_own(
    source: StoredBundle, variants: dict[str, TrainedBundle], tmp_path: Any, name: str
) -> None:
    made = variants[name]
    opened(made).check_golden()
    assert size(made) < 0.7 * size(source)
    assert variant_faults(made.manifest, name, source.manifest, source.digest) == []
    write_bundle(tmp_path / name, made.manifest, made.blobs)
    verify_bundle(tmp_path / name, OnnxRuntime())  # walked over and opened in a limited process, as any hub does


@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_a_variants_needs_are_its_own(source: StoredBundle, variants: dict[str, TrainedBundle], name: str) -> None:
    needs, before = variants[name].manifest.needs, source.manifest.needs
    assert needs.reference_ms == before.reference_ms, "both times are told on the same scale"
    assert 0.1 * before.latency_ms < needs.latency_ms < 10 * before.latency_ms
    assert needs.opset == before.opset
    extra = {"fp16": {"Cast"}, "int8": {"QuantizeLinear", "DequantizeLinear"}}[name]
    assert extra <= set(needs.ops)
    assert not extra & set(before.ops)
    assert "Softmax" not in needs.ops, "ONNX defines it by others"


def test_the_same_source_and_samples_make_the_same_bytes(
    source: StoredBundle, variants: dict[str, TrainedBundle], samples: list[TrainingSample]
) -> None:
    again = make_variants(source, ["int8", "fp16"], list(reversed(samples))).made
    for name, made in variants.items():
        assert made.blobs == again[name].blobs
        timeless = {"needs": made.manifest.needs}
        assert again[name].manifest.model_copy(update=timeless) == made.manifest


def test_inputs_and_outputs_stay_float32_and_only_opsets_in_use_are_named(variants: dict[str, TrainedBundle]) -> None:
    for made in variants.values():
        (data,) = made.blobs.values()
        model = onnx.load_model_from_string(data)
        kinds = {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
        assert kinds == {TensorProto.FLOAT}
        assert {item.domain for item in model.opset_import} <= {node.domain for node in model.graph.node} | {""}


def test_what_costs_accuracy_stays_float32(variants: dict[str, TrainedBundle]) -> None:
    """The dense head has a few weights much larger than the rest: in 8 bits the rest would be gone."""
    (data,) = variants["int8"].blobs.values()
    kinds = {item.name: item.data_type for item in onnx.load_model_from_string(data).graph.initializer}
    assert kinds["dense.weight"] == TensorProto.FLOAT
    assert TensorProto.INT8 in kinds.values()


def test_converting_leaves_no_file_and_no_log_behind(
    source: StoredBundle, samples: list[TrainingSample], tmp_path: Any, monkeypatch: Any, caplog: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    handlers = list(logging.getLogger().handlers)
    with caplog.at_level(logging.DEBUG):
        make_variants(source, ["fp16", "int8"], samples)
    assert list(tmp_path.iterdir()) == []
    assert logging.getLogger().handlers == handlers
    assert [record for record in caplog.records if record.name == "root"] == []


def test_trees_have_no_smaller_form_and_the_reason_is_given(world: Any) -> None:
    rows = [
        TrainingSample(
            name=f"r{number}",
            label="bad" if number % 3 == 0 else "ok",
            group=f"g{number}",
            read=world.reader(f'{{"a":{number % 3},"b":{number}}}'.encode()),
            media_type="application/json",
            site="north",
        )
        for number in range(60)
    ]
    made = stored(train(rows, now=world.now, trainer="tabular", config={"trees": 5}))
    found = make_variants(made, ["fp16", "int8"], rows)
    assert found.made == {}
    assert "leave fp16 out" in found.left_out["fp16"]
    assert "leave int8 out" in found.left_out["int8"]


def test_int8_without_enough_samples_is_not_made_and_fp16_needs_none(source: StoredBundle) -> None:
    found = make_variants(source, ["fp16", "int8"], [])
    assert set(found.made) == {"fp16"}
    assert "0 can be read, needs 8" in found.left_out["int8"]


def test_a_disk_that_takes_nothing_costs_the_variant_and_not_the_training(
    source: StoredBundle, samples: list[TrainingSample], tmp_path: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    found = make_variants(source, ["int8", "fp16"], samples)
    assert set(found.made) == {"fp16"}
    assert set(found.left_out) == {"int8"}


def test_a_variant_of_a_variant_is_refused(variants: dict[str, TrainedBundle], samples: list[TrainingSample]) -> None:
    found = make_variants(stored(variants["fp16"]), ["int8"], samples)
    assert "is the fp16 variant of" in found.left_out["int8"]


def test_an_unknown_precision_is_refused(source: StoredBundle) -> None:
    with pytest.raises(NotValid, match="there is no variant 'int4'"):
        make_variant(source, "int4", np.empty((0, 1), np.float32))


def test_a_network_beyond_the_range_of_halves_is_refused(source: StoredBundle) -> None:
    """A weight of 300,000 becomes 65,504, the largest that 16 bits hold."""
    big = np.tile(np.array([[3e5, 6e4]], np.float32), (400, 1))
    small = np.diag(np.array([1e-6, 1e-6], np.float32))
    nodes = [
        helper.make_node("MatMul", ["input", "big"], ["wide"]),
        helper.make_node("MatMul", ["wide", "small"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 400])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 2])],
        [
            numpy_helper.from_array(big, "big"),
            numpy_helper.from_array(small, "small"),
        ],
    )
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    columns = tuple(f"c{number}" for number in range(400))
    flat = (0.0,) * 400
    pre = TableSpec(columns=columns, fill=flat, mean=flat, std=(1.0,) * 400)
    manifest = source.manifest.model_copy(
        update={
            "graphs": (Graph(blob="net", input="input", scores="scores", pre=pre),),
            "labels": ("ok", "bad"),
            "blobs": {"net": Blob(sha256=digest(data), size_bytes=len(data))},
        }
    )
    wide = StoredBundle(manifest=manifest, digest=record_digest(manifest), blobs={digest(data): data})
    found = make_variants(wide, ["fp16"], [])
    assert "probabilities move by up to" in found.left_out["fp16"]


def test_broken_files_are_errors_for_people(source: StoredBundle) -> None:
    graph = source.manifest.graphs[0]
    with pytest.raises(NotValid, match="cannot be converted to fp16"):
        to_fp16(b"no network")
    with pytest.raises(NotValid):
        to_int8(b"no network", graph, golden_inputs(graph.pre, 0, 2))


def test_a_training_that_is_stopped_stops_here_too(source: StoredBundle, samples: list[TrainingSample]) -> None:
    def stop(_what: str, share: float) -> None:
        if share > 0:
            raise Cancelled

    with pytest.raises(Cancelled):
        make_variants(source, ["int8"], samples, progress=stop)


def test_calibration_takes_every_label_in_turn_and_no_doubtful_or_unreadable_sample(
    samples: list[TrainingSample], source: StoredBundle, world: Any
) -> None:
    spec = source.manifest.graphs[0].pre
    assert len(calibration_inputs(samples, spec)) == CALIBRATE_MAX
    few = samples[:4]
    odd = [replace(few[0], uncertain=True), replace(few[1], read=world.reader(b"no picture")), *few[2:]]
    wanted = [prepare(one.read(), one.media_type, spec) for one in few[2:]]
    found = list(calibration_inputs(odd, spec))
    assert len(found) == 2
    assert all(any(np.array_equal(one, other) for other in found) for one in wanted)
    assert 0 < SHIFT_EACH_MAX < 0.1
