"""Where the policy asks for it, sums by channel leave with noise, within the day's budget, or not at all."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from pydantic import ValidationError

from edgewise.edge._drift_watch import Change, DriftLimits, DriftWatch
from edgewise.edge._keeper import STATE_KEY
from edgewise.edge._sums_told import SumsTold, read_sums
from edgewise.measure import BudgetSpent, ChannelSums
from edgewise.policy import noise_missing
from edgewise.ports import Frame, SeededChance
from edgewise.wire import DataPolicy, Event, SumsNoise

LIMITS = DriftLimits(window_frames=8, calibration=24, inputs_per_window=4)
NOISE = {"epsilon_per_day": 0.9, "embedding_clip": 3.0, "input_clip": 1.0}
POLICY = {"data_class": "measurement", "transforms": [], "private": {"sums_noise": NOISE}}
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NO_NOISE = SumsTold(None)


def change(**more) -> Change:
    sums = ChannelSums.of(np.random.default_rng(1).normal(0, 1, (100, 6)), clip=3.0)
    values = {"release": "parts@1", "bundle": "b", "pipeline": "main", "evidence": 3001.0, "windows": 70}
    times = {"since": NOON, "until": NOON}
    return Change(**values | times | {"embedding": sums, "inputs": None, "values_per_frame": 1} | more)


# -- the decision by itself --------------------------------------------------------------------------------------------


def test_a_day_has_its_parts_of_the_budget_and_no_more_whatever_the_clock_does():
    sums, uniform = SumsTold(SumsNoise(sends_per_day=3, **NOISE)), SeededChance(1).random
    epsilons = [sums.told(change(), NOON, uniform)["noise"]["epsilon"] for _ in range(3)]
    assert epsilons == pytest.approx([0.3] * 3)
    for when in (NOON, NOON + timedelta(hours=11), NOON - timedelta(days=3650)):
        with pytest.raises(BudgetSpent):
            sums.told(change(), when, uniform)
    assert sums.told(change(), NOON + timedelta(days=1), uniform)["noise"]["epsilon"] == pytest.approx(0.3)


def test_what_is_spent_stays_spent_over_a_restart_and_over_a_policy_without_noise():
    sums, uniform = SumsTold(SumsNoise(**NOISE)), SeededChance(1).random
    sums.told(change(), NOON, uniform)
    between = SumsTold(None, json.loads(json.dumps(sums.plain())))
    between.told(change(), NOON, uniform)
    again = SumsTold(SumsNoise(**NOISE), json.loads(json.dumps(between.plain())))
    with pytest.raises(BudgetSpent):
        again.told(change(), NOON, uniform)


def test_only_the_first_refusal_is_one_to_tell_of_until_sums_are_told_again():
    sums, first = SumsTold(SumsNoise(**NOISE)), []
    for hours in (0, 1, 2, 3, 24, 25):
        try:
            sums.told(change(), NOON + timedelta(hours=hours), SeededChance(1).random)
        except BudgetSpent:
            first.append(sums.is_first_refusal)
    assert first == [True, False, False, True]


def test_noisy_sums_come_without_the_alarms_exact_evidence_and_exact_ones_with_it():
    told = SumsTold(SumsNoise(**NOISE)).told(change(), NOON, SeededChance(1).random)
    assert "evidence" not in told
    exact = NO_NOISE.told(change(), NOON, SeededChance(1).random)
    assert (exact["evidence"], "noise" in exact) == (3001.0, False)
    assert read_sums(exact["embedding"]).total == pytest.approx(change().embedding.total, rel=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon_per_day": 0}, {"epsilon_per_day": 1.0}, {"embedding_clip": 0}, {"input_clip": None}, {"delta": 0},
        {"epsilon_per_day": 3.0, "sends_per_day": 3}, {"epsilon_per_day": float("nan")},
    ],
)  # fmt: skip
def test_a_policy_whose_noise_promises_nothing_is_refused(wrong):
    with pytest.raises(ValidationError):
        SumsNoise.model_validate(NOISE | wrong)


# -- a device ----------------------------------------------------------------------------------------------------------


class Remembers(DriftWatch):
    """A watch that remembers what it found."""

    def take(self, period, noise=None):
        found = super().take(period, noise)
        self.found = [*getattr(self, "found", []), *([found] if found else [])]
        return found


def start(fleet, **private):
    device = fleet.device(data=POLICY | private)
    device.keeper.drift = Remembers(device.ring, lambda: device.updater.running, LIMITS)
    if fleet.hub.assignment is None:
        fleet.assign(fleet.release(1))
    fleet.run(device, 3)
    return device


def stream(fleet, device, *shifts: float) -> None:
    """Rows around each shift in turn, until all are decided and told."""
    dice = random.Random(fleet.fed)
    for shift in shifts:
        for _ in range(LIMITS.window_frames * 40):
            row = {"x": dice.gauss(shift, 0.4), "y": dice.gauss(0, 0.4)}
            name, data = f"f{fleet.fed:06d}", json.dumps(row).encode()
            frame = Frame(name=name, data=data, media_type="application/json", taken_at=fleet.clock.now())
            fleet.fed += 1
            fleet.frames.append(frame)
            fleet.source.add(frame)
        fleet.run(device, LIMITS.window_frames * 40 + 20)
    fleet.run(device, 10, seconds=70)


def sent(fleet, what: str = "channel_sums"):
    return [item for item in fleet.stored("event") if item["what"] == what]


def test_what_a_device_queues_carries_the_noise_that_it_names_and_not_the_exact_sums(fleet):
    device = start(fleet)
    stream(fleet, device, 0.0, 1.5)
    (event,), (exact,) = sent(fleet), device.keeper.drift.found
    noise = event["data"]["noise"]
    assert (noise["mechanism"], noise["unit"], noise["epsilon"], noise["delta"]) == ("gaussian", "frame", 0.9, 1e-6)
    assert noise_missing(DataPolicy.model_validate(POLICY), Event.model_validate(event)) == ""
    for name, true, clip in (("embedding", exact.embedding, 3.0), ("input", exact.inputs, 1.0)):
        told, part = read_sums(event["data"][name]), noise["parts"][name]
        assert (told.count, part["clip"], part["values_per_frame"]) == (true.count, clip, 1)
        assert np.abs(true.total).max() <= true.count * clip
        for got, was, deviation in (
            (told.total, true.total, part["total_deviation"]),
            (told.square, true.square, part["square_deviation"]),
        ):
            assert np.all(np.abs(got - was) > deviation * 1e-4)
            assert np.all(np.abs(got - was) < deviation * 6)
            assert np.abs(got - was).mean() > deviation * 0.1
    device.close(fleet.clock.now())


def test_without_budget_nothing_is_sent_it_is_counted_and_said_once_and_a_restart_gives_none_back(fleet):
    device = start(fleet)
    stream(fleet, device, 0.0, 1.5)
    device.close(fleet.clock.now())
    device = start(fleet)
    stream(fleet, device, 0.0, 1.5, -1.5)
    refusals = len(device.keeper.drift.found)
    assert refusals >= 2
    assert len(sent(fleet)) == 1
    assert device.keeper.not_kept["noise_budget_spent"] == refusals
    assert len(sent(fleet, "noise_budget_spent")) == 1
    fleet.clock.advance(86400)
    stream(fleet, device, 0.0, 1.5)
    assert len(sent(fleet)) == 2
    device.close(fleet.clock.now())


def test_sums_and_what_they_spend_are_stored_in_one_transaction(fleet):
    """A power cut leaves both or neither."""
    device = start(fleet)
    add_many, together = device.outbox.add_many, []

    def listening(entries, states=None):
        entries = list(entries)
        if any(getattr(entry.record, "what", "") == "channel_sums" for entry in entries):
            together.append(json.loads(states[STATE_KEY])["sums"])
        return add_many(entries, states)

    device.outbox.add_many = listening
    stream(fleet, device, 0.0, 1.5)
    assert [(one["spent"], one["day"]) for one in together] == [(0.9, "2026-03-01")]
    assert json.loads(device.outbox.state(STATE_KEY))["sums"]["spent"] == 0.9
    device.close(fleet.clock.now())
