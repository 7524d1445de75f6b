"""Networks of others: a file and what it does not say become a bundle like any other; what is missing is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from edgewise.cli._app import build
from edgewise.learn import import_model, make_variants, read_spec, score
from edgewise.ports import OnnxRuntime, StoredBundle, open_pipeline, verify_bundle
from edgewise.wire import NotValid

SPEC: dict[str, Any] = {
    "name": "press",
    "input": {"kind": "image", "width": 32, "height": 32, "channels": 1},
    "labels": ["ok", "pit"],
    "good_labels": ["ok"],
    "licence": "MIT",
}


def network(
    *,
    batch: int | str = "N",
    columns: int = 2,
    softmax: bool = False,
    kind: int = TensorProto.FLOAT,
    more: tuple[str, ...] = (),
    channels: int = 1,
) -> onnx.ModelProto:
    """Mean and maximum of a picture, and a linear layer on them."""
    weights = np.random.default_rng(1).standard_normal((2 * channels, columns)).astype(np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("GlobalMaxPool", ["x"], ["peak"]),
        helper.make_node("Concat", ["mean", "peak"], ["both"], axis=1),
        helper.make_node("Flatten", ["both"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, columns])]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
        outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, columns])]
    outputs += [
        helper.make_tensor_value_info(
            name, TensorProto.FLOAT, [batch, 2 * channels, *([1, 1] if name == "both" else [])]
        )
        for name in more
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, [batch, channels, 32, 32])],
        outputs,
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="somebody")
    model.ir_version = 8
    return model


def saved(tmp_path: Path, model: onnx.ModelProto, name: str = "press.onnx") -> Path:
    path = tmp_path / name
    path.write_bytes(model.SerializeToString())
    return path


def levels(found: Any, level: str) -> dict[str, str]:
    return {one.about: one.text for one in found.findings if one.level == level}


def test_logits_get_a_softmax_and_the_bundle_is_like_any_other(tmp_path: Path, world: Any) -> None:
    path = saved(tmp_path, network())
    found = import_model(path, read_spec(SPEC), now=world.now)
    assert levels(found, "missing") == {}
    assert "a softmax was put behind them" in levels(found, "assumed")["scores_are"]
    assert found.bundle is not None
    manifest = found.bundle.manifest
    assert manifest.provenance.trainer == "import"
    assert manifest.provenance.data["producer"] == "somebody"
    assert manifest.needs.opset == 17
    pipeline = open_pipeline(manifest, found.bundle.digest, found.bundle.blobs.__getitem__, OnnxRuntime())
    pipeline.check_golden()
    answer = pipeline.answer(world.surface("none", 1), "image/png")
    assert answer.scores.sum() == pytest.approx(1.0)
    again = import_model(path, read_spec(SPEC), now=world.now)
    assert again.bundle is not None
    assert list(again.bundle.blobs) == list(found.bundle.blobs)


def test_probabilities_stay_as_they_are(tmp_path: Path, world: Any) -> None:
    model = network(softmax=True)
    found = import_model(saved(tmp_path, model), read_spec(SPEC), now=world.now)
    assert found.bundle is not None
    assert found.bundle.manifest.graphs[0].scores == "probabilities"
    assert "rows sum to 1" in levels(found, "assumed")["scores_are"]


def test_a_fixed_first_axis_is_freed(tmp_path: Path, world: Any) -> None:
    found = import_model(saved(tmp_path, network(batch=1)), read_spec(SPEC), now=world.now)
    assert "is free now" in levels(found, "assumed")["batch"]
    assert found.bundle is not None


def test_data_gives_the_reference_and_an_embedding_is_taken_over(tmp_path: Path, world: Any) -> None:
    spec = read_spec({**SPEC, "scores": "logits", "embedding": "flat"})
    found = import_model(saved(tmp_path, network(more=("flat",))), spec, now=world.now, samples=world.surfaces(6))
    assert found.bundle is not None
    reference = found.bundle.manifest.reference
    assert reference is not None
    assert (reference.count, len(reference.input_mean), len(reference.embedding_mean)) == (18, 1, 2)


@pytest.mark.parametrize(
    ("model", "change", "about", "words"),
    [
        ({"columns": 3}, {}, "scores", "no output with 2 columns; name one of logits ['N', 3] as scores"),
        ({"more": ("flat",)}, {}, "scores", "several outputs with 2 columns"),
        ({}, {"scores": "nothing"}, "scores", "'nothing' is no output; outputs are logits"),
        ({}, {"embedding": "nothing"}, "embedding", "'nothing' is no output"),
        ({"more": ("both",)}, {"scores": "logits", "embedding": "both"}, "embedding", "has shape (4, 2, 1, 1)"),
        ({"channels": 3}, {}, "input", "x ['N', 3, 32, 32]; the spec's input makes ['N', 1, 32, 32]"),
        ({"kind": TensorProto.DOUBLE}, {}, "input", "is of type DOUBLE; FLOAT is needed"),
        ({}, {"scores_are": "probabilities"}, "run", "are said to be probabilities and sum to"),
    ],
)
def test_what_is_missing_is_said_with_the_value_needed(
    tmp_path: Path, world: Any, model: dict[str, Any], change: dict[str, Any], about: str, words: str
) -> None:
    found = import_model(saved(tmp_path, network(**model)), read_spec({**SPEC, **change}), now=world.now)
    assert found.bundle is None
    assert words in levels(found, "missing")[about]


def test_without_a_spec_the_report_says_what_has_to_be_in_it(tmp_path: Path, world: Any) -> None:
    found = import_model(saved(tmp_path, network()), None, now=world.now)
    assert found.bundle is None
    assert set(levels(found, "missing")) == {"spec", "input"}
    assert "x ['N', 1, 32, 32]" in levels(found, "missing")["input"]


def test_what_cannot_be_read_is_refused_in_one_sentence(tmp_path: Path, world: Any) -> None:
    spec = read_spec(SPEC)
    (tmp_path / "a.onnx").write_bytes(b"no network")
    with pytest.raises(NotValid, match=r"a\.onnx is no ONNX file that can be read"):
        import_model(tmp_path / "a.onnx", spec, now=world.now)
    for name in ("m.pt", "m.pkl"):
        (tmp_path / name).write_bytes(b"cos\nsystem\n")
        with pytest.raises(NotValid, match="runs code when it is opened"):
            import_model(tmp_path / name, spec, now=world.now)
    with pytest.raises(NotValid, match="cannot be read: No such file"):
        import_model(tmp_path / "none.onnx", spec, now=world.now)
    outside = network()
    tensor = outside.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret")
    with pytest.raises(NotValid, match="keeps 1 arrays in other files, first 'w'"):
        import_model(saved(tmp_path, outside), spec, now=world.now)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"labels": ["one"]}, "the spec's labels is wrong"), ({"lables": []}, "the spec's lables is wrong")],
)
def test_a_wrong_spec_is_explained(change: dict[str, Any], words: str) -> None:
    with pytest.raises(NotValid, match=words):
        read_spec({**SPEC, **change})


def test_an_imported_bundle_is_scored_and_made_smaller_like_any_other(tmp_path: Path, world: Any) -> None:
    found = import_model(saved(tmp_path, network()), read_spec(SPEC), now=world.now)
    assert found.bundle is not None
    stored = StoredBundle(manifest=found.bundle.manifest, digest=found.bundle.digest, blobs=found.bundle.blobs)
    for label, folder in (("none", "ok"), ("spot", "pit")):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for number in range(6):
            (tmp_path / "data" / folder / f"{number}.png").write_bytes(world.surface(label, number))
    assert score(stored, tmp_path / "data")["n"] == 12
    assert make_variants(stored, ["fp16"], []).left_out.keys() | {"fp16"} == {"fp16"}


def test_the_command_reports_and_writes(tmp_path: Path) -> None:
    path = saved(tmp_path, network())
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC))
    asked = ["bundle", "import", str(path), "--spec", str(tmp_path / "spec.yaml")]
    result = CliRunner().invoke(build("bundle"), [*asked, "-o", str(tmp_path / "bundle")])
    assert result.exit_code == 0, result.output
    assert "labels ok, pit" in result.output
    verify_bundle(tmp_path / "bundle", OnnxRuntime())
    bare = CliRunner().invoke(build("bundle"), ["bundle", "import", str(path)])
    assert bare.exit_code == 1
    assert "give one with --spec" in bare.output
