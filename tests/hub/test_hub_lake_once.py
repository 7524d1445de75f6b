"""Exactly once in the lake, as a property: any order of sending, killing, erasing, restoring and committing."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edgewise.hub import erasures, labels
from edgewise.hub.access import Person
from edgewise.wire import Erasure, digest
from lake_world import POLICY, Pond, readings

BOSS = Person(name="boss", role="approver")


class Killed(BaseException):
    """The process ends here."""


class Plant:
    """Two devices that send, a committer that is killed, and what has to be in the tables."""

    def __init__(self, make_yard, path, seed):
        self.yard = make_yard(seed=seed)
        fields = (*POLICY.fields, "subject")
        self.yard.apply(data=POLICY.model_copy(update={"fields": fields}))
        self.pond = Pond(yard=self.yard, path=path)
        self.devices = [self.yard.enrol("one"), self.yard.enrol("two", "south")]
        self.numbers = [0, 0]
        self.wanted = {name: [] for name in ("telemetry", "readings", "samples", "labels")}
        self.subjects = {}
        self.lake = None
        self.epoch = self.yard.hub.hub_epoch

    def send(self, who, count):
        device = self.devices[who]
        for _ in range(count):
            self.numbers[who] += 1
            plain, block = device.telemetry(), readings(device, [1.0, 2.0, 3.0])
            device.send(device.segment(self.numbers[who], plain, block, policy_version=2))
            self.wanted["telemetry"].append(plain.id)
            self.wanted["readings"] += [block.id] * 3

    def sample(self, who):
        device = self.devices[who]
        self.numbers[who] += 1
        kept = device.sample(facts={"subject": digest(f"{who}/{self.numbers[who]}".encode())})
        device.send(device.segment(self.numbers[who], kept, policy_version=2))
        self.wanted["samples"].append(kept.id)
        self.subjects[kept.id] = kept.facts["subject"]

    def label(self, chance):
        if self.wanted["samples"]:
            name = chance.choice(self.wanted["samples"])
            word = chance.choice(["good", "pit"])
            new, _ = labels.set_labels(self.yard.hub.store, [(name, word)], who="ann", now=self.yard.clock.now())
            self.wanted["labels"] += [name] * new

    def erase(self, chance):
        mine = [name for name in self.wanted["samples"] if name in self.subjects]
        if mine:
            name = chance.choice(mine)
            erasures.create(self.yard.hub, "press", Erasure(subject=self.subjects[name], reason="asked"), BOSS)
            for table in ("samples", "labels"):
                self.wanted[table] = [item for item in self.wanted[table] if item != name]

    def commit(self, behind):
        """A round that ends with a kill behind so many durable steps, if it gets there."""
        steps = 0

        def kill(_name):
            nonlocal steps
            steps += 1
            if steps > behind:
                raise Killed

        bounds = {"rows_max": 5, "bytes_max": 700, "segments_max": 3, "notes_max": 4, "batches_max": 3}
        with contextlib.suppress(Killed):
            self.pond.lake(kill, hub_epoch=self.epoch, **bounds).commit(self.yard.clock.now())

    def check(self):
        lake = self.pond.lake(hub_epoch=self.epoch)
        while not lake.commit(self.yard.clock.now()):
            pass
        assert {table: self.pond.ids(table) for table in self.wanted} == {
            table: sorted(ids) for table, ids in self.wanted.items()
        }


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 1), st.integers(1, 4)),
        st.tuples(st.just("sample"), st.integers(0, 1), st.just(0)),
        st.tuples(st.sampled_from(["label", "label", "erase"]), st.just(0), st.just(0)),
        st.tuples(st.just("commit"), st.just(0), st.integers(0, 30)),
        st.tuples(st.just("restore"), st.just(0), st.integers(0, 9)),
    ),
    min_size=3,
    max_size=14,
)


@pytest.mark.timeout(600)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@example(acts=[("label", 0, 0), ("restore", 0, 1), ("commit", 0, 3)], seed=0)
@given(acts=ACTS, seed=st.integers(0, 2**16))
def test_whatever_is_killed_and_in_whatever_order_each_row_is_in_the_lake_once(make_yard, tmp_path_factory, acts, seed):
    chance = random.Random(seed)
    plant = Plant(make_yard, tmp_path_factory.mktemp("lake"), seed)
    for name, who, count in acts:
        if name == "send":
            plant.send(who, count)
        elif name == "sample":
            plant.sample(who)
        elif name == "commit":
            plant.commit(count)
        elif name == "restore":
            plant.epoch = digest(f"{seed}/{count}".encode())[:32]
        else:
            getattr(plant, name)(chance)
    plant.check()
