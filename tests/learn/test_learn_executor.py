"""Where trainings run: the same bundle everywhere, an end to those that take too much, none lost with a kill."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from edgewise.learn import Cancelled
from edgewise.learn._checkpoint import Checkpoint, tidy
from edgewise.learn._executor import Executor, InProcess, LocalProcess, TrainingLimits
from edgewise.learn._task import Made, Task
from edgewise.ports import FolderBlobs
from edgewise.wire import DatasetRevision, LabelledSample, NotValid, Order, revision_digest
from needed import needs_module

CONFIG = {"architecture": "small", "steps": 60, "batch": 16}
TRAINERS = """
import os, time
import numpy as np

class Base:
    task = "image-classification"

class Dies(Base):
    def fit(self, job):
        job.progress("train", 0.4)
        time.sleep(0.3)
        os._exit(7)

class Eats(Base):
    def fit(self, job):
        held = []
        while True:
            held.append(np.ones(20_000_000 // 8))
            job.progress("eat", 0.5)
            time.sleep(0.01)

class Sleeps(Base):
    def fit(self, job):
        job.progress("sleep", 0.25)
        time.sleep(600)

class Raises(Base):
    def fit(self, job):
        raise KeyError("no such\\nthing")
"""


def a_task(world: Any, blobs: FolderBlobs, *, trainer: str = "vision", **config: Any) -> Task:
    samples = tuple(
        LabelledSample(
            sample=f"{number:032x}",
            blob=blobs.put(one.read()),
            media_type=one.media_type,
            label=one.label,
            site="north",
            group=one.group,
        )
        for number, one in enumerate(world.surfaces(8))
    )
    revision = DatasetRevision(use_case="press", made_at=world.now, samples=samples)
    order = Order(
        id="0" * 31 + "1",
        use_case="press",
        revision=revision_digest(revision),
        trainer=trainer,
        config={**CONFIG, **config},
        made_at=world.now,
    )
    return Task(order=order, revision=revision, base=None, now=world.now)


def weights(made: Made) -> dict[str, bytes]:
    return dict(made.bundle.blobs)


@pytest.fixture
def blobs(tmp_path: Path) -> FolderBlobs:
    return FolderBlobs(tmp_path / "blobs")


@pytest.fixture
def trainers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainers of another package; a new process finds them as this one does."""
    about = tmp_path / "bad_trainers-1.dist-info"
    about.mkdir()
    (tmp_path / "bad_trainers.py").write_text(TRAINERS)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: bad_trainers\nVersion: 1\n")
    names = ("dies", "eats", "sleeps", "raises")
    points = "\n".join(f"{name} = bad_trainers:{name.title()}" for name in names)
    (about / "entry_points.txt").write_text(f"[edgewise.trainers]\n{points}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Executor]:
    """A real Ray cluster of this machine alone."""
    ray = needs_module("ray")
    from edgewise.learn._ray import RayCluster

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
    yield RayCluster()
    ray.shutdown()


def go_on(_what: str, _share: float) -> None:
    """Nobody wants to stop it."""


def test_a_process_of_its_own_makes_the_same_bundle(world: Any, blobs: FolderBlobs) -> None:
    task = a_task(world, blobs)
    assert weights(LocalProcess().run(task, blobs, go_on)) == weights(InProcess().run(task, blobs, go_on))


def test_a_ray_cluster_makes_the_same_bundle(world: Any, blobs: FolderBlobs, cluster: Executor) -> None:
    task = a_task(world, blobs)
    seen: list[str] = []
    made = cluster.run(task, blobs, lambda what, _share: seen.append(what))
    assert weights(made) == weights(InProcess().run(task, blobs, go_on))
    assert seen, "nobody was told that it runs"
    assert cluster.parallel == 2


def test_a_refusal_on_a_ray_cluster_is_the_same_sentence(world: Any, blobs: FolderBlobs, cluster: Executor) -> None:
    with pytest.raises(NotValid, match="batch is 1, needs to be a number from 2") as caught:
        cluster.run(a_task(world, blobs, batch=1), blobs, go_on)
    assert caught.value.code == "config_invalid"


def test_a_training_on_a_ray_cluster_can_be_ended(world: Any, blobs: FolderBlobs, cluster: Executor) -> None:
    task, started_s = a_task(world, blobs, steps=1_000_000), time.monotonic()

    def stop_soon(_what: str, _share: float) -> None:
        if time.monotonic() - started_s > 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        cluster.run(task, blobs, stop_soon)
    ray, end_s = needs_module("ray"), time.monotonic() + 30
    while ray.available_resources().get("CPU") != 2:
        assert time.monotonic() < end_s, "the cluster is not free for the next one"
        time.sleep(0.1)


@pytest.mark.usefixtures("trainers")
@pytest.mark.parametrize(
    ("trainer", "limits", "code", "words"),
    [
        ("dies", {}, "training_ended", "the process that trained ended with code 7 at train, 40%"),
        ("eats", {"memory_bytes_max": 700_000_000}, "training_too_large", "at most 700 MB are allowed"),
        ("sleeps", {"seconds_max": 3.0}, "training_too_long", "was at sleep, 25%, after 3 s"),
        ("raises", {}, "trainer_crashed", "the trainer raises stopped with KeyError: 'no such"),
    ],
)
def test_a_training_that_goes_wrong_ends_with_one_sentence(
    world: Any, blobs: FolderBlobs, trainer: str, limits: dict[str, Any], code: str, words: str
) -> None:
    with pytest.raises(NotValid, match=words) as caught:
        LocalProcess(TrainingLimits(**limits)).run(a_task(world, blobs, trainer=trainer), blobs, go_on)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    assert not training_processes()


@pytest.mark.usefixtures("trainers")
def test_a_training_that_hangs_is_ended_when_it_is_not_wanted(world: Any, blobs: FolderBlobs) -> None:
    def stop(what: str, _share: float) -> None:
        if what == "sleep":
            raise Cancelled

    with pytest.raises(Cancelled):
        LocalProcess().run(a_task(world, blobs, trainer="sleeps"), blobs, stop)
    assert not training_processes()


def training_processes() -> list[psutil.Process]:
    """What the server of forks has forked; the server itself stays."""
    found = []
    for server in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "multiprocessing.forkserver" in " ".join(server.cmdline()):
                found += server.children()
    return [one for one in found if one.status() != psutil.STATUS_ZOMBIE]


def killer_at(path: Path) -> Callable[[], None]:
    """Ends the process that trains, with no time to say anything, as soon as it has written a state."""

    def kill() -> None:
        while not path.exists():
            time.sleep(0.005)
        for child in training_processes():
            os.kill(child.pid, signal.SIGKILL)

    return kill


@pytest.mark.parametrize("architecture", ["small", "surface"])
def test_a_killed_training_goes_on_and_makes_the_same_bundle(
    world: Any, blobs: FolderBlobs, tmp_path: Path, architecture: str
) -> None:
    task = a_task(world, blobs, architecture=architecture, steps=90, validation_share=0.3)
    whole = InProcess().run(task, blobs, go_on)
    path = tmp_path / "state.checkpoint"
    killer = threading.Thread(target=killer_at(path))
    killer.start()
    with pytest.raises(NotValid, match="was killed by signal 9") as caught:
        LocalProcess().run(task, blobs, go_on, Checkpoint(path, "this", every_s=0.05))
    killer.join()
    assert caught.value.code == "training_ended"
    stages: list[float] = []
    again = LocalProcess().run(
        task, blobs, lambda what, share: stages.append(share) if what == "train" else None, Checkpoint(path, "this")
    )
    assert weights(again) == weights(whole)
    assert min(stages) > 0.2, "it did not begin anew"


def test_a_state_of_another_training_or_a_damaged_one_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "a.checkpoint"
    mine = Checkpoint(path, "mine")
    assert mine.read() is None
    mine.write(b"state")
    assert mine.read() == b"state"
    assert Checkpoint(path, "yours").read() is None
    path.write_bytes(path.read_bytes()[:-1])
    assert mine.read() is None
    mine.delete()
    mine.delete()
    assert not path.exists()


def test_states_are_written_now_and_then_and_left_ones_are_few(tmp_path: Path) -> None:
    seconds = [0.0]
    kept = Checkpoint(tmp_path / "a.checkpoint", "k", every_s=10, clock=lambda: seconds[0])
    assert not kept.is_due
    seconds[0] = 10.0
    assert kept.is_due
    kept.write(b"1")
    assert not kept.is_due
    for number in range(9):
        (tmp_path / f"{number}.checkpoint").write_bytes(b"old")
        os.utime(tmp_path / f"{number}.checkpoint", (number, number))
    tidy(tmp_path, kept.path)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["5", "6", "7", "8", "a"]


def test_a_disk_that_refuses_costs_the_state_not_the_training(tmp_path: Path) -> None:
    gone = Checkpoint(tmp_path / "nowhere" / "a.checkpoint", "k")
    gone.write(b"state")
    assert gone.read() is None
