"""Bundles of several graphs: a second network on what the first one found, the same wherever the bundle runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.edge._v2_models import ServedModel
from edgewise.frames import BadBox, crop
from edgewise.ports import MemoryRuntime, OnnxRuntime, Pipeline, open_pipeline, verify_bundle, write_bundle
from edgewise.ports.scoring import score_bundle
from edgewise.wire import (
    After,
    Blob,
    Decision,
    Golden,
    Graph,
    LabelledSample,
    Manifest,
    Needs,
    NotTrusted,
    NotValid,
    Provenance,
    TableSpec,
    decode,
    digest,
    encode,
)
from staged_world import NOW, Made, manifest_of, picture


@pytest.fixture(scope="module")
def made() -> Made:
    return Made()


def said(pipeline: Pipeline, data: bytes) -> Decision:
    return pipeline.decide(pipeline.answer(data, "image/png"), None)


@pytest.mark.parametrize("quarter", range(4))
@pytest.mark.parametrize(("level", "label"), [(250, "light"), (165, "dark")])
def test_the_second_graph_sees_the_part_that_the_first_one_found(made, quarter, level, label):
    decision = said(made.open(), picture(quarter, level))
    assert (decision.label, decision.graph) == (label, "grade")
    ((first),) = decision.earlier
    assert (first.graph, first.label) == ("find", "part")
    assert decode(Decision, encode(decision)) == decision


def test_where_the_first_graph_is_enough_the_second_one_does_not_run(made):
    decision = said(made.open(), picture(None, 0))
    assert (decision.label, decision.graph, decision.earlier) == ("empty", "find", None)


def test_a_second_graph_on_the_whole_frame_sees_the_whole_frame():
    whole = Made(part=False).open()
    assert said(whole, picture(2, 250)).label == "dark"  # one light quarter of four


def test_without_a_box_what_the_first_graph_said_stands():
    decision = said(Made(boxes="none").open(), picture(1, 250))
    assert (decision.label, decision.graph, decision.earlier) == ("part", "find", None)


def test_a_box_of_no_numbers_is_the_bundles_fault():
    with pytest.raises(BadBox, match="four finite numbers"):
        said(Made(boxes="nan").open(), picture(1, 250))


def test_a_networks_own_doubt_comes_from_the_graph_that_decides(made):
    first, second = made.manifest.graphs
    doubting = (first.model_copy(update={"doubt": "doubt"}), second)
    pipeline = made.open(made.manifest.model_copy(update={"graphs": doubting}))
    assert pipeline.answer(picture(None, 0), "image/png").doubt == pytest.approx(10 / 255, abs=1e-4)
    assert pipeline.answer(picture(1, 250), "image/png").doubt is None  # the second one has no such output
    wrong = (first.model_copy(update={"doubt": "scores"}), second)
    with pytest.raises(NotValid, match=r"has shape \(1, 4\), needs \(1,\)"):
        made.open(made.manifest.model_copy(update={"graphs": wrong})).answer(picture(0, 0), "image/png")


# -- golden answers, vetting -------------------------------------------------------------------------------------------


def test_golden_answers_cover_each_graph_and_the_paths_between_them(made):
    golden = made.manifest.golden
    assert set(golden.stages) == {"grade"}
    assert len(golden.stages["grade"]) == len(golden.paths) == golden.count
    assert set(golden.paths) == {"find", "grade"}  # this seed leads both ways
    made.open().check_golden()
    again = made.open().make_golden(seed=5, count=8)
    assert encode(again) == encode(golden)


def golden_with(made: Made, **more: Any) -> Manifest:
    return made.manifest.model_copy(update={"golden": made.manifest.golden.model_copy(update=more)})


def test_a_wrong_second_stage_a_wrong_path_and_missing_answers_are_found_out(made):
    golden = made.manifest.golden
    swapped = {"grade": tuple(row[::-1] for row in golden.stages["grade"])}
    with pytest.raises(NotValid, match="are off by"):
        made.open(golden_with(made, stages=swapped)).check_golden()
    turned = tuple({"find": "grade", "grade": "find"}[name] for name in golden.paths)
    with pytest.raises(NotValid, match="are decided on by"):
        made.open(golden_with(made, paths=turned)).check_golden()
    with pytest.raises(NotValid, match="no golden answers of graph grade"):
        made.open(golden_with(made, stages=None)).check_golden()


def test_every_graph_is_vetted_before_the_bundle_is_trusted(made, tmp_path):
    verify_bundle(made.write(tmp_path / "good"), OnnxRuntime())
    evil = b"\x80\x04cos\nsystem\n."
    networks = {**made.networks, "grader": evil}
    manifest = manifest_of(networks)
    write_bundle(tmp_path / "bad", encode(manifest), {digest(data): data for data in networks.values()})
    with pytest.raises(NotTrusted, match="graph grade is refused"):
        verify_bundle(tmp_path / "bad", OnnxRuntime())


def graphs(made: Made, **more: Any) -> tuple[Graph, ...]:
    first, second = made.manifest.graphs
    return first, second.model_copy(update=more)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda made: made.manifest.graphs[::-1], "must name the graph it runs after"),
        (lambda made: graphs(made, after=None), "must name the graph it runs after"),
        (lambda made: graphs(made, name="find"), "two graphs are named find"),
        (lambda made: graphs(made, after=After(graph="grade", labels=("part",))), "which is no earlier graph"),
        (lambda made: graphs(made, after=After(graph="find", labels=("cat",))), "labels that the bundle does not have"),
        (
            lambda made: graphs(made, pre=TableSpec(columns=("a",), fill=(0,), mean=(0,), std=(1,))),
            "all stages take pictures or all take rows",
        ),
        (
            lambda made: (made.manifest.graphs[0].model_copy(update={"boxes": None}), made.manifest.graphs[1]),
            "gives no boxes",
        ),
    ],
)
def test_graphs_that_make_no_sense_together_are_refused(made, tmp_path, change, message):
    manifest = made.manifest.model_copy(update={"graphs": change(made)})
    with pytest.raises(NotValid, match=message):
        made.open(manifest)
    write_bundle(tmp_path / "bundle", encode(manifest), made.blobs)
    with pytest.raises(NotTrusted, match=message):
        verify_bundle(tmp_path / "bundle", OnnxRuntime())


def test_bundles_of_one_graph_and_their_decisions_keep_their_bytes():
    """The digest is a bundle's identity: fields that are new must not show where they are not used."""
    spec = TableSpec(columns=("x", "y"), fill=(0, 0), mean=(0, 0), std=(1, 1))
    manifest = Manifest(
        name="old", task="tabular-classification", labels=("good", "crack"), good_label="good",
        graphs=(Graph(blob="net", input="input", scores="scores", embedding="embedding", pre=spec),),
        golden=Golden(seed=1, count=1, scores=((0.25, 0.75),)), needs=Needs(opset=17, ram_mb=10, latency_ms=1),
        provenance=Provenance(trained_at=NOW, trainer="none", code_version="0"),
        blobs={"net": Blob(sha256="a" * 64, size_bytes=1)},
    )  # fmt: skip
    assert digest(encode(manifest)) == "1a89e9a94bc5d58acc84b2433182f4a56e0f6b96df7a9e2b75fbfafbd67f56bd"
    decision = Decision(label="good", confidence=0.5, margin=0.1, bundle="b" * 64)
    assert digest(encode(decision)) == "09f8f6950077cd1a53c347f9e49430a6fcee2738ba7ffba0d3268442edcbce73"


# -- one implementation ------------------------------------------------------------------------------------------------


def test_the_gate_and_a_server_decide_as_the_device_does(made):
    frames = {digest(data): data for data in (picture(0, 250), picture(3, 165), picture(None, 0))}
    pipeline = made.open()
    wanted = {blob: said(pipeline, data).label for blob, data in frames.items()}
    assert set(wanted.values()) == {"light", "dark", "empty"}
    samples = [
        LabelledSample(
            sample=blob[:32],
            site="north",
            group="",
            label="light",
            blob=blob,
            media_type="image/png",
            split="evaluation",
        )
        for blob in frames
    ]
    card = score_bundle(
        encode(made.manifest), samples, read_blob={**made.blobs, **frames}.__getitem__, runtime=OnnxRuntime(),
        good_labels=(), now=NOW,
    )  # fmt: skip
    assert [prediction.label for prediction in card.predictions] == list(wanted.values())
    served = ServedModel.of_pipeline(pipeline)
    assert [served.decide(data).label for data in frames.values()] == list(wanted.values())


def test_rows_go_through_stages_too():
    """Networks of numbers, each with columns of its own; the second one runs after one label only."""
    specs = [TableSpec(columns=(name, "z"), fill=(0, 0), mean=(1, 2), std=(3, 1)) for name in ("x", "y")]
    networks = {f"net{seed}": b'{"classes": 3, "seed": %d, "embedding": 4}' % seed for seed in (1, 2)}
    blobs = {digest(data): data for data in networks.values()}
    draft = manifest_of(
        networks, task="tabular-classification", labels=("a", "b", "c"),
        graphs=(
            Graph(name="first", blob="net1", input="input", scores="scores", embedding="embedding", pre=specs[0]),
            Graph(
                name="second", blob="net2", input="input", scores="scores", pre=specs[1],
                after=After(graph="first", labels=("b", "c")),
            ),
        ),
    )  # fmt: skip
    pipeline = open_pipeline(draft, "0" * 64, blobs.__getitem__, MemoryRuntime())
    golden = pipeline.make_golden(seed=1, count=32)
    assert set(golden.paths) == {"first", "second"}
    whole = open_pipeline(draft.model_copy(update={"golden": golden}), "0" * 64, blobs.__getitem__, MemoryRuntime())
    whole.check_golden()
    for number in range(40):
        answer = whole.answer(b'{"x": %d, "y": %d, "z": 1}' % (number - 20, number % 7), "application/json")
        decision = whole.decide(answer, None)
        assert answer.embedding is not None  # of the first graph, so that frames can be compared
        if decision.graph == "second":
            assert decision.earlier[0].label in ("b", "c")
        else:
            assert decision.label == "a"


@given(st.tuples(*[st.floats(-0.5, 1.5) for _ in range(4)]), st.integers(1, 40), st.integers(1, 40))
def test_any_part_of_a_picture_has_pixels_and_lies_in_it(corners, height, width):
    x1, x2 = sorted(corners[:2])
    y1, y2 = sorted(corners[2:])
    picture = np.arange(height * width, dtype=np.uint32).reshape(height, width, 1).astype(np.uint8)
    part = crop(picture, np.array([x1, y1, x2, y2], np.float32))
    assert 1 <= part.shape[0] <= height
    assert 1 <= part.shape[1] <= width
