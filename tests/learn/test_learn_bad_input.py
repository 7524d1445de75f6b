"""What nobody can learn from: the order fails with one sentence, the champion stays, nothing is half-registered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from edgewise.wire import NotValid
from worker_plant import Plant, wait_for
from worker_plant import plant as plant

WORKER = """
import sys
from pathlib import Path
from edgewise.learn import LocalProcess, Worker
from edgewise.learn._worker import WorkerLimits, run_worker
from edgewise.ports.api import HubApi
if __name__ == "__main__":
    import edgewise.learn._worker as module
    limits = WorkerLimits(poll_s=0.05, checkpoint_s=0.1, heartbeat_s=0.2)
    module.WorkerLimits = lambda **_: limits
    run_worker(HubApi(sys.argv[1], sys.argv[2]), Path(sys.argv[3]), name=sys.argv[4], executor=LocalProcess())
"""
TRAINERS = """
import time
from dataclasses import replace
from edgewise.learn._vision import VisionTrainer

class Crashes:
    task = "image-classification"
    def fit(self, job):
        raise RuntimeError("the gradient\\nhas left")

class Spoils:
    task = "image-classification"
    def fit(self, job):
        fitted = VisionTrainer().fit(job)
        def reference(inputs):
            scores, embedding = fitted.reference(inputs)
            return scores * float("nan"), embedding
        return replace(fitted, reference=reference)

class Sleeps:
    task = "image-classification"
    def fit(self, job):
        time.sleep(600)
"""
QUICK = {"architecture": "small", "steps": 20, "batch": 8}


@pytest.fixture
def start(plant: Plant, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts real workers, which know the bad trainers; ends them, each with its whole group."""
    home = tmp_path / "trainers"
    about = home / "bad_trainers-1.dist-info"
    about.mkdir(parents=True)
    (home / "bad_trainers.py").write_text(TRAINERS)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: bad_trainers\nVersion: 1\n")
    points = "\n".join(f"{name} = bad_trainers:{name.title()}" for name in ("crashes", "spoils", "sleeps"))
    (about / "entry_points.txt").write_text(f"[edgewise.trainers]\n{points}\n")
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    paths = [str(home), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    running: list[subprocess.Popen[str]] = []

    def make(name: str = "w1") -> subprocess.Popen[str]:
        url = f"http://127.0.0.1:{plant.port}"
        words = [sys.executable, str(script), url, plant.hub.tokens.text("worker"), str(tmp_path / "work"), name]
        running.append(subprocess.Popen(words, start_new_session=True, env=environment, text=True))
        return running[-1]

    yield make
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def has(plant: Plant, order: dict[str, Any], *states: str) -> Callable[[], bool]:
    return lambda: plant.state(order)["state"] in states


def check_failed(plant: Plant, order: dict[str, Any], words: str) -> None:
    """It failed for good, with these words in one sentence, and left nothing behind."""
    wait_for(has(plant, order, "failed"), 120)
    state = plant.state(order)
    assert words in state["error"]
    assert "\n" not in state["error"]
    assert "Traceback" not in state["error"]
    assert (state["attempts"], state["candidate"]) == (3, None)
    assert plant.admin.get("/bundles") == []
    assert plant.admin.get("/releases") == []


def test_what_cannot_be_learned_from_fails_its_order_with_a_sentence_and_leaves_nothing(
    plant: Plant, start: Any, world: Any
) -> None:
    """One worker after the other order: an empty class, trainers that crash and answer NaN, pictures that are none."""
    start()
    plant.label(world.surfaces(8, labels=("none",)))
    check_failed(plant, plant.order(config=QUICK), "none")
    plant.label(world.surfaces(8, labels=("scratch",), start=100))
    crash = plant.order(config=QUICK, trainer="crashes")
    check_failed(plant, crash, "stopped with RuntimeError: the gradient has left")
    check_failed(plant, plant.order(config=QUICK, trainer="spoils"), "answers with what is no number")
    broken = world.surfaces(20, labels=("none", "scratch"), start=200)
    plant.label([replace(one, read=world.reader(f"no {one.name}".encode())) for one in broken])
    check_failed(plant, plant.order(config=QUICK), "cannot be decoded, first")


def test_samples_of_one_site_are_enough_to_learn_from(plant: Plant, start: Any, world: Any) -> None:
    """A first site comes before a second one; what is not measured for another site, its gate says."""
    plant.label(world.surfaces(8, labels=("none", "scratch")))
    order = plant.order(config=QUICK)
    start()
    wait_for(has(plant, order, "returned"), 120)


def test_pictures_under_two_labels_are_left_out_and_where_no_other_is_left_there_is_no_order(
    plant: Plant, world: Any
) -> None:
    samples = world.surfaces(8, labels=("none", "scratch"))
    turned = {"none": "scratch", "scratch": "none"}
    plant.label([*samples, *(replace(one, name=f"again-{one.name}", label=turned[one.label]) for one in samples)])
    with pytest.raises(NotValid, match=r"none may be: .*labelled in two ways; label other ones") as caught:
        plant.order(config=QUICK)
    assert "\n" not in str(caught.value)
    assert plant.admin.get("/orders") == []
    plant.label(world.surfaces(8, labels=("none", "scratch"), start=100))
    assert plant.order(config=QUICK)["id"]


def test_samples_that_are_erased_fail_the_order_that_waits_for_a_worker(plant: Plant, start: Any, world: Any) -> None:
    plant.label(world.surfaces(8, labels=("none", "scratch")))
    order = plant.order(config=QUICK)
    plant.admin.post("/erasures", {"use_case": "press", "site": "north", "reason": "asked for"})
    start()
    wait_for(has(plant, order, "failed"), 60)
    assert "erased" in plant.state(order)["error"]
    assert plant.admin.get("/bundles") == []


def test_a_worker_that_vanishes_is_followed_by_another(plant: Plant, start: Any, world: Any) -> None:
    plant.label(world.surfaces(8, labels=("none", "scratch")))
    order = plant.order(config=QUICK, trainer="sleeps")
    first = start()
    wait_for(lambda: bool(trainings(first.pid)), 60)
    (training,) = trainings(first.pid)
    first.kill()  # the worker alone: what it had trained ends with it
    first.wait()
    wait_for(lambda: not training.is_running() or training.status() == psutil.STATUS_ZOMBIE, 20)
    plant.hub.tick(plant.hub.now() + timedelta(seconds=plant.hub.limits.order_lease_s + 1))
    state = plant.state(order)
    assert (state["state"], state["error"]) == ("open", "worker w1 went silent")


def test_a_stop_of_the_whole_group_gives_the_order_back_and_keeps_its_state(
    plant: Plant, start: Any, world: Any, tmp_path: Path
) -> None:
    plant.label(world.surfaces(12, labels=("none", "scratch")))
    order = plant.order(config={"architecture": "small", "steps": 1_000_000})
    first = start()
    wait_for(lambda: any((tmp_path / "work").glob("states/*.checkpoint")), 60)
    os.killpg(first.pid, signal.SIGTERM)
    assert first.wait(30) == 0
    state = plant.state(order)
    assert (state["state"], state["attempts"]) == ("open", 0)
    assert state["error"] == "the worker was stopped before the training ended"
    assert list((tmp_path / "work").glob("states/*.checkpoint"))


def test_a_training_that_is_killed_from_outside_is_gone_on_with(
    plant: Plant, start: Any, world: Any, tmp_path: Path
) -> None:
    plant.label(world.surfaces(12, labels=("none", "scratch")))
    order = plant.order(config={"architecture": "small", "steps": 1_000_000})
    first = start()
    wait_for(lambda: any((tmp_path / "work").glob("states/*.checkpoint")), 60)
    kept = next((tmp_path / "work").glob("states/*.checkpoint"))
    for training in trainings(first.pid):
        training.kill()
    wait_for(lambda: plant.state(order)["attempts"] == 2, 60)
    assert "was killed by signal 9" in plant.state(order)["error"]
    assert kept.exists()
    plant.admin.post(f"/orders/{order['id']}/cancel", {"reason": "seen enough"})
    wait_for(lambda: not kept.exists(), 30)


def trainings(worker: int) -> list[psutil.Process]:
    """The processes that train: children of the worker's server of forks."""
    try:
        servers = psutil.Process(worker).children()
    except psutil.NoSuchProcess:
        return []
    return [
        child
        for server in servers
        if "forkserver" in " ".join(server.cmdline())
        for child in server.children()
        if child.status() != psutil.STATUS_ZOMBIE
    ]
