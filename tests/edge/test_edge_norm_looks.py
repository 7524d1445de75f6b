"""A device tells once what its network's channels get, as sums alone, and only what its policy lets out."""

from __future__ import annotations

import json
import math
import random
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from edgewise.edge import _keeper
from edgewise.edge._drift_watch import DriftLimits, DriftWatch
from edgewise.edge._norm_looks import NormLimits, SumsTerms
from edgewise.edge._sums_told import SumsTold
from edgewise.frames import golden_inputs, prepare
from edgewise.measure import BudgetSpent, read_norm_sum
from edgewise.policy import noise_missing
from edgewise.ports import Frame, OnnxRuntime, norm_sums
from edgewise.wire import (
    Blob,
    DataPolicy,
    Event,
    Golden,
    Graph,
    Manifest,
    Needs,
    Provenance,
    SumsNoise,
    TableSpec,
    ToldSums,
    digest,
    encode,
)
from networks import normed_network

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOISE = {"epsilon_per_day": 0.9, "clip": 3.0}
ADAPT = {"adapt": True}
LIMITS = NormLimits(frames=32, every=2, seconds_max=7200.0)
SPEC = TableSpec(columns=("x", "y"), fill=(0, 0), mean=(0, 0), std=(1, 1))
LABELS = ("good", "pit", "scratch")


def policy(**private: Any) -> dict[str, Any]:
    return {"data_class": "measurement", "transforms": [], "private": private}


def bundle(fleet, **made: Any) -> str:
    network, norms = normed_network(1)
    scores = OnnxRuntime().open(network).run(golden_inputs(SPEC, 1, 4))["scores"]
    manifest = Manifest(
        name="net1",
        task="tabular-classification",
        graphs=(Graph(blob="net", input="input", scores="scores", embedding="embedding", norms=norms, pre=SPEC),),
        labels=LABELS,
        good_label="good",
        golden=Golden(seed=1, count=4, scores=tuple(tuple(float(v) for v in row) for row in scores)),
        needs=Needs(opset=17, ram_mb=10, latency_ms=1),
        provenance=Provenance(trained_at=NOON, trainer="none", code_version="0", **made),
        blobs={"net": Blob(sha256=digest(network), size_bytes=len(network))},
    )
    data = encode(manifest)
    fleet.hub.blobs[digest(network)] = network
    fleet.manifests[digest(data)] = data
    return digest(data)


def start(fleet, *, retrain: dict[str, Any] | None = None, made: dict[str, Any] | None = None, **more: Any):
    device = fleet.device(runtime=OnnxRuntime(), retrain=ADAPT if retrain is None else retrain, **more)
    device.norms._limits = LIMITS
    if fleet.hub.assignment is None:
        fleet.assign(fleet.sign(bundle(fleet, **(made or {}))))
    fleet.run(device, 3)
    assert device.updater.running is not None
    return device


def feed(fleet, device, count: int, shift: float = 0.0) -> None:
    dice = random.Random(fleet.fed)
    for _ in range(count):
        row = {"x": dice.gauss(shift, 1.0), "y": dice.gauss(0, 1.0)}
        frame = Frame(name=f"f{fleet.fed:06d}", data=json.dumps(row).encode(), media_type="application/json",
                      taken_at=fleet.clock.now())  # fmt: skip
        fleet.fed += 1
        fleet.frames.append(frame)
        fleet.source.add(frame)
    fleet.run(device, count + 20)
    fleet.run(device, 10, seconds=70)


def told(fleet) -> list[ToldSums]:
    return [ToldSums.model_validate(item["data"]) for item in fleet.stored("event") if item["what"] == "channel_sums"]


def test_the_first_frames_of_a_bundle_are_told_once_as_the_sums_that_anybody_can_compute(fleet):
    device = start(fleet)
    feed(fleet, device, 160, shift=1.0)
    (sums,) = told(fleet)
    assert (sums.why, sums.frames, sums.release) == ("first", 32, "parts@1")
    network, norms = normed_network(1)
    graph = device.updater.running.pipeline.manifest.graphs[0]
    assert [one.count for one in sums.norms] == [32, 32]
    first = read_norm_sum(sums.norms[0])
    # The device took every second frame; the first norm depends on no other.
    frames = [frame for number, frame in enumerate(fleet.frames, 1) if number % 2 == 0]
    inputs = np.stack([prepare(one.data, one.media_type, SPEC) for one in frames])
    known = [norm_sums(OnnxRuntime(), network, graph, inputs[at : at + 32]) for at in range(40)]
    assert any(np.allclose(first.total, one[0].total, rtol=1e-4, atol=1e-3) for one in known)
    assert len(norms) == 2
    assert np.abs(first.mean()).max() > 0.3, "the site differs from training"
    feed(fleet, device, 160, shift=1.0)
    assert len(told(fleet)) == 1
    device.close(fleet.clock.now())


def test_a_restart_neither_tells_again_nor_loses_the_question(fleet):
    device = start(fleet)
    feed(fleet, device, 32)
    assert told(fleet) == []
    device.close(fleet.clock.now())
    device = start(fleet)
    feed(fleet, device, 160)
    assert len(told(fleet)) == 1
    device.close(fleet.clock.now())
    device = start(fleet)
    feed(fleet, device, 160)
    assert len(told(fleet)) == 1
    device.close(fleet.clock.now())


@pytest.mark.parametrize(
    ("more", "made"),
    [
        ({"retrain": {"adapt": False}}, {}),
        ({"data": {"data_class": "measurement", "transforms": [], "leave": ["report", "audit"]}}, {}),
        ({}, {"site": "north", "variant_of": "a" * 64}),
        ({"data": policy(counts_min=1000)}, {}),
    ],
)
def test_nothing_is_told_where_nobody_asks_the_policy_says_no_or_a_variant_runs(fleet, more, made):
    device = start(fleet, made=made, **more)
    feed(fleet, device, 160)
    assert told(fleet) == []
    device.close(fleet.clock.now())


def test_a_minimum_of_frames_by_policy_is_kept(fleet):
    device = start(fleet, data=policy(counts_min=50))
    feed(fleet, device, 300)
    (sums,) = told(fleet)
    assert sums.frames >= 50
    device.close(fleet.clock.now())


def test_an_alarm_has_the_new_stream_told_also_where_the_use_case_does_not_adapt(fleet):
    device = start(fleet, retrain={"adapt": False})
    device.keeper.drift = DriftWatch(lambda: device.updater.running, DriftLimits(window_frames=16, calibration=24))
    feed(fleet, device, 16 * 40)
    assert told(fleet) == []
    feed(fleet, device, 16 * 40, shift=2.5)
    (sums,) = told(fleet)
    assert sums.why == "alarm"
    assert sums.evidence is not None
    assert np.abs(read_norm_sum(sums.norms[0]).mean()).max() > 0.5
    device.close(fleet.clock.now())


def test_a_question_of_the_hub_is_answered_once_also_where_the_use_case_does_not_adapt(fleet):
    release = fleet.sign(bundle(fleet))
    fleet.assign(release)
    device = start(fleet, retrain={"adapt": False})
    feed(fleet, device, 160)
    assert told(fleet) == []
    fleet.assign(release, sums="a" * 32)
    feed(fleet, device, 160)
    feed(fleet, device, 160)
    assert [one.why for one in told(fleet)] == ["asked"]
    device.close(fleet.clock.now())
    device = start(fleet, retrain={"adapt": False})
    feed(fleet, device, 160)
    assert len(told(fleet)) == 1, "a restart does not forget that it was answered"
    fleet.assign(release, sums="b" * 32)
    feed(fleet, device, 200)
    assert len(told(fleet)) == 2
    device.close(fleet.clock.now())


def test_an_alarm_begins_anew_what_is_under_way_and_nothing_else_does(fleet):
    device = start(fleet)
    feed(fleet, device, 32)
    wants = [
        device.norms.want(why, key="q", terms=SumsTerms()) for why in ("first", "asked", "alarm", "alarm", "first")
    ]
    assert wants == [False, False, True, False, False]
    feed(fleet, device, 200, shift=1.0)
    assert [one.why for one in told(fleet)][:1] == ["alarm"]
    device.close(fleet.clock.now())


def test_too_few_frames_within_the_time_give_no_sums_and_later_ones_do(fleet):
    device = start(fleet)
    feed(fleet, device, 16)
    fleet.clock.advance(4000)
    feed(fleet, device, 16)
    assert told(fleet) == []
    assert "needs 16" in device.norms.given_up
    assert device.keeper.not_kept == {"look_sums_too_few": 1}
    feed(fleet, device, 160)
    assert len(told(fleet)) == 1
    device.close(fleet.clock.now())


def test_a_network_that_fails_in_a_look_decides_on_and_is_not_asked_for_ever(fleet):
    device = start(fleet)
    asked = []

    def broken(_running):
        asked.append(1)
        raise MemoryError("no memory for a second session")

    device.norms._model = broken
    before = device.decisions
    feed(fleet, device, 200)
    assert device.decisions == before + 200
    assert asked == [1]
    assert device.keeper.not_kept == {"look_MemoryError": 1}
    assert told(fleet) == []
    device.close(fleet.clock.now())


def test_a_decision_does_not_wait_for_a_look(fleet):
    """Invariant 1: a look that hangs holds nothing that a decision or a record step needs."""
    device = start(fleet)
    held, free = threading.Event(), threading.Event()
    real = device.norms._model

    def slow(running):
        held.set()
        assert free.wait(10)
        return real(running)

    device.norms._model = slow
    feed(fleet, device, 0)
    other = threading.Thread(target=lambda: [device.norms.step(0.05) for _ in range(100) if not free.is_set()])
    device.norms_step = lambda *_: False
    other.start()
    before = device.decisions
    feed(fleet, device, 64)
    assert held.wait(5)
    feed(fleet, device, 64)
    assert device.decisions == before + 128
    free.set()
    other.join()
    device.close(fleet.clock.now())


# -- noise -------------------------------------------------------------------------------------------------------------


def test_a_day_has_its_parts_of_the_budget_and_no_more_whatever_the_clock_does():
    sums = SumsTold(SumsNoise(sends_per_day=3, **NOISE))
    for _ in range(3):
        sums.spend(NOON)
    for when in (NOON, NOON + timedelta(hours=11), NOON - timedelta(days=3650)):
        with pytest.raises(BudgetSpent):
            sums.spend(when)
    sums.spend(NOON + timedelta(days=1))


def test_what_is_spent_stays_spent_over_a_restart_and_over_a_policy_without_noise():
    sums = SumsTold(SumsNoise(**NOISE))
    sums.spend(NOON)
    between = SumsTold(None, json.loads(json.dumps(sums.plain())))
    between.spend(NOON)
    again = SumsTold(SumsNoise(**NOISE), json.loads(json.dumps(between.plain())))
    with pytest.raises(BudgetSpent):
        again.spend(NOON)


def test_only_the_first_refusal_is_one_to_tell_of_until_sums_are_told_again():
    sums, first = SumsTold(SumsNoise(**NOISE)), []
    for hours in (0, 1, 2, 3, 24, 25):
        try:
            sums.spend(NOON + timedelta(hours=hours))
        except BudgetSpent:
            first.append(sums.is_first_refusal)
    assert first == [True, False, False, True]


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon_per_day": 0}, {"epsilon_per_day": 1.0}, {"clip": 0}, {"clip": None}, {"delta": 0},
        {"epsilon_per_day": 3.0, "sends_per_day": 3}, {"epsilon_per_day": float("nan")},
    ],
)  # fmt: skip
def test_a_policy_whose_noise_promises_nothing_is_refused(wrong):
    with pytest.raises(ValidationError):
        SumsNoise.model_validate(NOISE | wrong)


def test_what_a_device_queues_carries_the_noise_that_it_names_and_not_the_exact_sums(fleet):
    device = start(fleet, data=policy(sums_noise=NOISE))
    feed(fleet, device, 160, shift=1.0)
    (sums,) = told(fleet)
    assert sums.noise is not None
    noise = sums.noise
    assert (noise.mechanism, noise.unit, noise.epsilon, noise.delta) == ("gaussian", "frame", 0.9, 1e-6)
    event = next(item for item in fleet.stored("event") if item["what"] == "channel_sums")
    assert noise_missing(DataPolicy.model_validate(policy(sums_noise=NOISE)), Event.model_validate(event)) == ""
    for one, part, channels in zip(sums.norms, noise.parts, (4, 8), strict=True):
        assert (one.count, part.clip, part.values_per_frame) == (32, 3.0, 1)
        # Two norms about the same frames: the length of one that tells both, by the classic formula.
        unit = 2 * math.sqrt(channels) * math.sqrt(2) * math.sqrt(2 * math.log(1.25e6)) / 0.9
        assert part.total_deviation == pytest.approx(unit * 3.0)
        assert part.square_deviation == pytest.approx(unit * 9.0)
        got = read_norm_sum(one, exact=False)
        assert np.abs(got.total).max() > 0.5 * part.total_deviation, "exact sums are far smaller than this noise"
        assert np.abs(got.total).max() < one.count * 3.0 + 6 * part.total_deviation
    device.close(fleet.clock.now())


def test_without_budget_nothing_is_sent_it_is_counted_and_said_once(fleet):
    device = start(fleet, data=policy(sums_noise=NOISE))
    feed(fleet, device, 160)
    assert len(told(fleet)) == 1
    state = json.loads(device.outbox.state(_keeper.STATE_KEY))
    assert (state["sums"]["spent"], state["sums"]["day"]) == (0.9, "2026-03-01")
    device.norms._told.clear()
    feed(fleet, device, 160)
    assert len(told(fleet)) == 1
    assert device.keeper.not_kept["noise_budget_spent"] == 1
    assert [item["what"] for item in fleet.stored("event")].count("noise_budget_spent") == 1
    device.close(fleet.clock.now())


def test_sums_and_what_they_spend_are_stored_in_one_transaction(fleet):
    """A power cut leaves both or neither."""
    device = start(fleet, data=policy(sums_noise=NOISE))
    add_many, together = device.outbox.add_many, []

    def listening(entries, states=None):
        entries = list(entries)
        if any(getattr(entry.record, "what", "") == "channel_sums" for entry in entries):
            state = json.loads(states[_keeper.STATE_KEY])
            together.append((state["sums"]["spent"], len(state["norms"])))
        return add_many(entries, states)

    device.outbox.add_many = listening
    feed(fleet, device, 160)
    assert together == [(0.9, 1)]
    device.close(fleet.clock.now())
