"""The factory's recipes: what the line does, what the page shows, and how a bundle is measured on the hold-out."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
import yaml

from edgewise.apps.factory._chains import Use, set_aside, uses_of
from edgewise.apps.factory.baselines import Selection
from edgewise.apps.factory.edge import act
from edgewise.apps.factory.holdout import Holdout, enlarged, measure_holdout
from edgewise.apps.factory.hub import blocks
from edgewise.apps.factory.plants import Plan, generated_plan
from edgewise.apps.factory.usecase import use_case_text
from edgewise.hub.app_page import SiteNumbers
from edgewise.ports import MemoryRuntime, Pipeline, open_pipeline
from edgewise.wire import (
    Blob,
    Decision,
    Golden,
    Graph,
    ImageSpec,
    Manifest,
    Needs,
    NotValid,
    Provenance,
    UseCase,
    canonical,
    digest,
)

LABELS = ("none", "crack", "pores", "scratch", "chatter")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return generated_plan(1, 2, "quick")


def always(label: str) -> Pipeline:
    """A bundle whose network gives the same label to everything."""
    bias = [6.0 if one == label else 0.0 for one in LABELS]
    network = {"classes": 5, "seed": 1, "embedding": 2, "readout": [[0.0, 0.0]] * 5, "bias": bias}
    model = canonical(network)
    manifest = Manifest(
        name="constant",
        task="image-classification",
        graphs=(
            Graph(blob="m", input="input", scores="scores", embedding="embedding", pre=ImageSpec(width=16, height=16)),
        ),
        labels=LABELS,
        good_label="none",
        golden=Golden(seed=1, count=1, scores=((0.0,) * 5,)),
        needs=Needs(opset=1, ram_mb=1, latency_ms=1),
        provenance=Provenance(trained_at=datetime(2026, 1, 1, tzinfo=UTC), trainer="none", code_version="0"),
        blobs={"m": Blob(sha256=digest(model), size_bytes=len(model))},
    )
    return open_pipeline(manifest, "0" * 64, {digest(model): model}.__getitem__, MemoryRuntime())


@pytest.mark.parametrize(
    ("label", "defect", "margin", "does"),
    [
        ("none", 0.02, 0.9, "pass"),
        ("crack", 0.97, 0.9, "reject"),
        ("crack", 0.55, 0.1, "inspect"),
        ("none", 0.45, 0.1, "inspect"),
        ("crack", 0.5, 0.2, "reject"),
        ("patches", None, 0.9, "inspect"),
    ],
)
def test_a_part_goes_on_is_looked_at_or_taken_out(label: str, defect: float | None, margin: float, does: str) -> None:
    decision = Decision(label=label, confidence=0.9, defect=defect, margin=margin, bundle="0" * 64)
    assert act(decision).do == does


def test_a_threshold_outside_0_to_1_is_refused() -> None:
    decision = Decision(label="none", confidence=0.9, defect=0.1, margin=0.8, bundle="0" * 64)
    with pytest.raises(NotValid, match=r"reject_at is 1\.5"):
        act(decision, reject_at=1.5)


def test_the_page_counts_defects_and_not_good_parts() -> None:
    north = SiteNumbers(site="north", decisions={"none": 5, "crack": 2, "pores": 3}, total=10, alarms=4)
    page = blocks([north], good_labels=["none"])
    assert page[0].rows == (("10",),)
    assert page[2].rows == (("north", "pores", "3"), ("north", "crack", "2"))
    assert blocks([], good_labels=[])[1].rows == ()


@pytest.mark.parametrize("data", ["real", "generated"])
def test_the_use_case_is_valid_for_both_kinds_of_data(data: str) -> None:
    use_case = UseCase.model_validate(yaml.safe_load(use_case_text(data)))
    assert len(use_case.sites) == (3 if data == "real" else 4)
    assert set(use_case.outcome.labels_that_matter) <= set(use_case.outcome.labels)


def test_the_real_use_case_declares_both_names_of_good_parts() -> None:
    use_case = UseCase.model_validate(yaml.safe_load(use_case_text("real")))
    assert use_case.outcome.good_labels == ("none", "free")


def test_a_network_that_calls_everything_good_reaches_one_half_everywhere(plan: Plan) -> None:
    score = measure_holdout(always("none"), plan)
    assert list(score) == ["north", "east", "south", "west"]
    for name, one in score.items():
        assert one["plant"] == name
        assert one["metric"] == "balanced_accuracy"
        assert one["value"] == 0.5


def test_wrong_answers_are_told_apart_from_right_ones(plan: Plan) -> None:
    wrong = Holdout(plan).score(always("none")).wrong
    held = [picture for measure in plan.measures for picture in measure.pictures]
    assert len(wrong) == sum(picture.label != "none" for picture in held)
    assert all(one.picture.label != "none" and one.decision.label == "none" for one in wrong)


def test_measuring_again_gives_the_same_and_prepares_nothing_again(plan: Plan) -> None:
    holdout = Holdout(plan)
    first = holdout.score(always("crack"))
    prepared = next(iter(holdout._prepared.values()))
    before = {key: id(value) for key, value in prepared.items()}
    assert holdout.score(always("crack")) == first
    assert {key: id(value) for key, value in prepared.items()} == before


def test_enlarging_keeps_the_picture_and_changes_its_size() -> None:
    pixels = np.repeat(np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], 30, axis=0)
    large = enlarged(pixels, (120, 60))
    assert large.shape == (60, 120, 1)
    assert np.abs(large[30, ::2, 0].astype(int) - pixels[15, :, 0]).max() <= 4


def test_random_upload_never_gets_more_than_the_loop_spent_so_far(plan: Plan) -> None:
    selection = Selection(plan=plan, kind="random")
    spent = {plant: Use() for plant in plan.plants}
    had = {plant: Use() for plant in plan.plants}
    for number in (1, 2):
        uses = uses_of(plan, [one.name for plant in plan.plants for one in plan.of_round(number)[plant][:9]])
        spent = {plant: spent[plant] + uses[plant] for plant in plan.plants}
        chosen = selection.of_round(number, uses)
        for plant in plan.plants:
            ours = uses_of(plan, [one.name for one in chosen])[plant]
            had[plant] = had[plant] + ours
            assert had[plant].pictures <= spent[plant].pictures
            assert had[plant].size_bytes <= spent[plant].size_bytes
        assert set(chosen) <= {one for plant in plan.plants for one in plan.of_round(number)[plant]}


def test_what_is_set_aside_goes_by_whole_parts(plan: Plan) -> None:
    kept = {one.group for one in set_aside(plan.streamed)}
    out = {one.group for one in plan.streamed if one not in set_aside(plan.streamed)}
    assert not kept & out
    assert 0.1 < len(out) / (len(out) + len(kept)) < 0.3
