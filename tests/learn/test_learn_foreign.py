"""Classifiers of scikit-learn: opened from skops files, never from pickles; what is missing is said."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
import yaml
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from typer.testing import CliRunner

from edgewise.cli._app import build
from edgewise.learn import import_model, read_spec
from edgewise.learn._foreign import PARITY_MAX, _compared
from edgewise.learn._foreign_common import parity_inputs
from edgewise.learn._kinds import directory_bytes, kind_of
from edgewise.ports import OnnxRuntime, open_pipeline, verify_bundle
from edgewise.wire import NotTrusted, NotValid

COLUMNS = ["heat", "load", "hum", "speed"]
SPEC: dict[str, Any] = {
    "name": "pump",
    "input": {"kind": "table", "columns": COLUMNS, "fill": [0] * 4, "mean": [0] * 4, "std": [1] * 4},
    "labels": ["bad", "ok"],
    "good_labels": ["ok"],
    "licence": "MIT",
}
TREE = "sklearn.tree._tree.Tree"


def rows() -> tuple[np.ndarray, np.ndarray]:
    data = np.random.default_rng(3).normal(size=(200, 4)) * 5
    return data, np.where(data[:, 0] + data[:, 1] > 0, "ok", "bad")


def saved(tmp_path: Path, model: Any, target: Any = None) -> Path:
    data, labels = rows()
    path = tmp_path / "pump.skops"
    skops.io.dump(model.fit(data, labels if target is None else target), path)
    return path


def levels(found: Any, level: str) -> dict[str, str]:
    return {one.about: one.text for one in found.findings if one.level == level}


def test_a_pipeline_becomes_a_bundle_that_decides_as_the_model_does(tmp_path: Path, world: Any) -> None:
    model = make_pipeline(StandardScaler(), LogisticRegression())
    found = import_model(saved(tmp_path, model), read_spec(SPEC), now=world.now)
    assert levels(found, "missing") == {}
    assert levels(found, "found")["model"] == "Pipeline with LogisticRegression, by skops"
    assert found.bundle is not None
    made = found.bundle.manifest.provenance
    assert (made.data["source_kind"], made.data["source_model"]) == ("skops", "Pipeline with LogisticRegression")
    assert {"scikit-learn", "skops", "skl2onnx"} <= set(made.libraries)
    pipeline = open_pipeline(found.bundle.manifest, found.bundle.digest, found.bundle.blobs.__getitem__, OnnxRuntime())
    for row in rows()[0][:20]:
        scores = pipeline.stages[0].run(row[None].astype(np.float32)).scores
        assert np.abs(scores - model.predict_proba(row[None])).max() < PARITY_MAX


def test_types_for_which_skops_does_not_vouch_are_named_and_can_be_trusted_by_name(tmp_path: Path, world: Any) -> None:
    path = saved(tmp_path, RandomForestClassifier(5, random_state=0))
    with pytest.raises(NotTrusted, match=rf"does not vouch.*: {TREE}; .*--trust {TREE}"):
        import_model(path, read_spec(SPEC), now=world.now)
    found = import_model(path, read_spec(SPEC), now=world.now, trusted=[TREE])
    assert found.bundle is not None


def test_code_of_others_is_refused_by_name_whatever_is_trusted(tmp_path: Path, world: Any) -> None:
    path = tmp_path / "pump.skops"
    skops.io.dump(make_pipeline(FunctionTransformer(print), LogisticRegression()), path)
    with pytest.raises(NotTrusted, match=r"holds builtins\.print, code that is not scikit-learn's"):
        import_model(path, read_spec(SPEC), now=world.now, trusted=["builtins.print"])


@pytest.mark.parametrize(
    ("model", "change", "about", "words"),
    [
        (LogisticRegression(), {"labels": ["ok", "bad"]}, "labels", "classes are bad, ok, the spec's labels ok, bad"),
        (SVC(), {}, "scores", "SVC gives no probabilities; put sklearn.calibration.CalibratedClassifierCV around"),
        (LinearRegression(), {}, "task", "is a LinearRegression; a fitted classifier is needed"),
    ],
)
def test_what_is_missing_is_said_with_the_value_needed(
    tmp_path: Path, world: Any, model: Any, change: dict[str, Any], about: str, words: str
) -> None:
    target = rows()[0][:, 0] if isinstance(model, LinearRegression) else None
    found = import_model(saved(tmp_path, model, target), read_spec({**SPEC, **change}), now=world.now)
    assert found.bundle is None
    assert words in levels(found, "missing")[about]


def test_columns_have_to_be_as_many_as_the_model_takes(tmp_path: Path, world: Any) -> None:
    narrow = {"kind": "table", "columns": ["heat"], "fill": [0], "mean": [0], "std": [1]}
    found = import_model(saved(tmp_path, LogisticRegression()), read_spec({**SPEC, "input": narrow}), now=world.now)
    assert "it takes (N, 4); the spec's input makes (N, 1)" in levels(found, "missing")["input"]


def test_without_a_spec_the_model_tells_its_classes_and_columns(tmp_path: Path, world: Any) -> None:
    found = import_model(saved(tmp_path, LogisticRegression()), None, now=world.now)
    assert "rows of 4 columns" in levels(found, "missing")["input"]
    assert "its classes are bad, ok, in this order" in levels(found, "found")["labels"]


def test_a_network_that_says_something_else_than_its_model_is_no_bundle(tmp_path: Path, world: Any) -> None:
    found = import_model(saved(tmp_path, LogisticRegression()), read_spec(SPEC), now=world.now)
    assert found.bundle is not None
    (network,) = found.bundle.blobs.values()
    spec = read_spec(SPEC).input
    right = OnnxRuntime().open(network, threads=1).run(parity_inputs(spec))["probabilities"]
    assert _compared(network, {"probabilities": right}, spec, {}).network == network
    wrong = _compared(network, {"probabilities": right + np.float32(2 * PARITY_MAX)}, spec, {})
    assert wrong.network is None
    assert wrong.missing is not None
    assert "says something else than the model, by 0.002" in wrong.missing[1]
    assert _compared(network, {"probabilities": right * np.float32("nan")}, spec, {}).network is None


class Trap:
    """A pickle that leaves a file behind when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["m.pkl", "m.joblib", "m.pickle", "m.skops", "m.onnx", "m"])
def test_a_pickle_is_never_opened_whatever_it_is_called(tmp_path: Path, world: Any, name: str) -> None:
    path, trace = tmp_path / name, tmp_path / "opened"
    path.write_bytes(pickle.dumps(Trap(trace)))
    with pytest.raises(NotValid, match="runs code when it is opened"):
        import_model(path, read_spec(SPEC), now=world.now)
    assert not trace.exists()


def test_a_pickle_is_refused_with_the_way_to_save_it_instead(tmp_path: Path) -> None:
    joblib.dump(LogisticRegression(), tmp_path / "m.joblib", compress=3)
    with pytest.raises(NotValid, match=r"save it as skops\.io\.dump\(model, 'model\.skops'\)"):
        kind_of(tmp_path / "m.joblib")


def test_an_archive_that_lists_too_many_files_is_not_read(tmp_path: Path) -> None:
    end = b"PK\x05\x06" + bytes(8) + (200 << 20).to_bytes(4, "little") + bytes(6)
    (tmp_path / "m.skops").write_bytes(b"PK\x03\x04" + bytes(600) + end)
    with pytest.raises(NotValid, match="lists files over 209715200 bytes"):
        kind_of(tmp_path / "m.skops")
    large = b"PK\x06\x06" + bytes(36) + (1 << 40).to_bytes(8, "little") + bytes(8)
    assert directory_bytes(large + end) == 1 << 40


def test_the_command_takes_a_skops_file(tmp_path: Path) -> None:
    path = saved(tmp_path, RandomForestClassifier(3, random_state=0))
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC))
    asked = ["bundle", "import", str(path), "--spec", str(tmp_path / "spec.yaml"), "-o", str(tmp_path / "bundle")]
    result = CliRunner().invoke(build("bundle"), [*asked, "--trust", TREE])
    assert result.exit_code == 0, result.output
    verify_bundle(tmp_path / "bundle", OnnxRuntime())
