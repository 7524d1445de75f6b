"""The worker against a real hub over real HTTP: an order becomes a candidate, whatever goes wrong on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgewise.hub import read_usecase, usecases
from edgewise.hub.store import orders as order_rows
from edgewise.learn import InProcess, LocalProcess, Worker
from edgewise.learn._worker import WorkerLimits, run_worker
from edgewise.ports.api import HubApi
from edgewise.wire import NotTrusted, Robustness, Scorecard, decode, digest
from worker_plant import FAST, USECASE, Plant, wait_for
from worker_plant import plant as plant


@pytest.fixture
def worker(plant: Plant, tmp_path: Path) -> Iterator[Worker]:
    with plant.client("worker") as api:
        yield Worker(api, tmp_path / "work", name="w1", limits=FAST)


def test_an_order_becomes_a_candidate(plant: Plant, worker: Worker, world: Any) -> None:
    plant.label(world.surfaces(12, labels=("none", "scratch")))
    order = plant.order(seed=3)
    assert worker.step()
    state = plant.state(order)
    assert state["state"] == "returned"
    manifest = plant.admin.get(f"/bundles/{state['candidate']['bundle']}")
    assert manifest["provenance"]["order"] == order["id"]
    assert manifest["provenance"]["revision"] == order["revision"]
    assert manifest["provenance"]["seed"] == 3
    assert manifest["good_labels"] == ["none"]
    blob = manifest["blobs"]["model.onnx"]["sha256"]
    assert digest(plant.admin.get_blob(blob)) == blob
    assert not worker.step(), "nothing more to do"


def test_variants_come_with_the_candidate_and_each_is_judged_by_itself(
    plant: Plant, worker: Worker, world: Any
) -> None:
    text = USECASE + "gate: {robustness: report}\n"
    usecases.apply(plant.hub.store, read_usecase(text), source=text, who="test", now=plant.hub.now())
    plant.label(world.surfaces(30, labels=("none", "scratch")))
    order = plant.order(variants=["fp16", "int8"], config={"seconds": 2.0})
    assert worker.step()
    state = plant.state(order)
    assert state["state"] == "returned"
    candidate = state["candidate"]
    assert set(candidate["robustness"]) == {candidate["bundle"], *candidate["variants"].values()}
    assert candidate["robustness"][candidate["bundle"]]["trained_on"], "vision fits its heads on every picture"
    assert set(candidate["variants"]) == {"fp16", "int8"}
    for name, bundle in candidate["variants"].items():
        made = plant.admin.get(f"/bundles/{bundle}")["provenance"]
        assert (made["variant"], made["variant_of"]) == (name, candidate["bundle"])
        assert (made["order"], made["revision"]) == (order["id"], order["revision"])
    plant.hub.tick(plant.hub.now())
    found = {item["candidate"]: item for item in plant.admin.get("/verdicts", use_case="press", variants=True)}
    assert {found[bundle]["variant"] for bundle in candidate["variants"].values()} == {"fp16", "int8"}
    assert {item["result"] for item in found.values()} == {"passed"}
    assert set(found[candidate["bundle"]]["variants"]) == {"fp16", "int8"}
    card = decode(Scorecard, plant.admin.get_bytes(f"/scorecards/{found[candidate['bundle']]['scorecard']}"))
    assert card.robustness == Robustness.model_validate(candidate["robustness"][candidate["bundle"]])


def test_a_second_order_starts_from_the_first_and_fetches_no_sample_twice(
    plant: Plant, worker: Worker, tmp_path: Path, world: Any
) -> None:
    plant.label(world.surfaces(8, labels=("none", "scratch")))
    first = plant.order()
    worker.step()
    base = plant.state(first)["candidate"]["bundle"]
    plant.label(world.surfaces(4, labels=("spot",)))
    held = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*") if path.is_file()}
    second = plant.order(base=base)
    worker.step()
    manifest = plant.admin.get(f"/bundles/{plant.state(second)['candidate']['bundle']}")
    assert manifest["labels"][:2] == ["none", "scratch"]
    assert manifest["provenance"]["parent"] == base
    assert manifest["provenance"]["data"]["warm_start"] is True
    assert held
    assert all(path.stat().st_mtime_ns == before for path, before in held.items())


def test_what_cannot_be_trained_fails_with_one_sentence(plant: Plant, worker: Worker, world: Any) -> None:
    plant.label(world.surfaces(6, labels=("none",)))
    order = plant.order()
    assert worker.step()
    assert "only one class, 'none'" in plant.state(order)["error"]
    assert "\n" not in plant.state(order)["error"]


def test_a_hub_that_goes_away_and_comes_back_gets_its_candidate(plant: Plant, worker: Worker, world: Any) -> None:
    plant.label(world.surfaces(8, labels=("none", "scratch")))
    order = plant.order()
    plant.down()
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    plant.up()
    wait_for(lambda: plant.state(order)["state"] == "returned")
    worker.stop.ask()
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_a_stopped_worker_gives_its_order_back(plant: Plant, worker: Worker, world: Any) -> None:
    plant.label(world.surfaces(8, labels=("none", "scratch")))
    order = plant.order(config={"seconds": 600})
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    wait_for(lambda: plant.state(order)["state"] == "claimed")
    worker.stop.ask()
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert plant.state(order)["state"] in ("open", "failed")
    assert "stopped" in plant.state(order)["error"]


def test_heartbeats_keep_the_lease_while_training(plant: Plant, worker: Worker, world: Any) -> None:
    plant.label(world.surfaces(8, labels=("none", "scratch")))
    order = plant.order(config={"seconds": 600})
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    wait_for(lambda: plant.state(order)["state"] == "claimed")
    first = plant.state(order)["lease_until"]
    wait_for(lambda: plant.state(order)["lease_until"] > first)
    worker.stop.ask()
    thread.join(timeout=30)


def test_an_order_that_the_hub_took_back_is_dropped(plant: Plant, worker: Worker, world: Any) -> None:
    plant.label(world.surfaces(8, labels=("none", "scratch")))
    order = plant.order(config={"seconds": 600})
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    wait_for(lambda: plant.state(order)["state"] == "claimed")
    said = plant.client("worker")
    said.post(f"/orders/{order['id']}/fail", {"worker": "w1", "error": "an operator took it"})
    wait_for(lambda: plant.state(order)["attempts"] == 2, 30)  # dropped, and claimed again by its loop
    worker.stop.ask()
    thread.join(timeout=30)
    said.close()
    assert not thread.is_alive()


def test_the_cache_stays_under_its_bound(plant: Plant, tmp_path: Path, world: Any) -> None:
    limits = WorkerLimits(poll_s=0.05, cache_bytes_max=1)
    with plant.client("worker") as api:
        worker = Worker(api, tmp_path / "work", limits=limits)
        plant.label(world.surfaces(6, labels=("none", "scratch")))
        first = plant.order()
        worker.step()
        base = plant.state(first)["candidate"]["bundle"]
        # Bundles are fetched into the cache too; the next order without a base makes room for itself.
        plant.order(base=base)
        worker.step()
        with_base = sum(1 for path in (tmp_path / "work").rglob("*") if path.is_file())
        plant.order()
        worker.step()
        assert sum(1 for path in (tmp_path / "work").rglob("*") if path.is_file()) < with_base


def test_a_wrong_token_ends_the_worker(plant: Plant, tmp_path: Path) -> None:
    with HubApi(f"http://127.0.0.1:{plant.port}", "nonsense") as api, pytest.raises(NotTrusted):
        Worker(api, tmp_path, limits=FAST).run()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_worker_and_leaves_the_handlers_as_they_were(
    plant: Plant, tmp_path: Path, number: signal.Signals
) -> None:
    before = signal.getsignal(number)

    def send() -> None:
        wait_for(lambda: signal.getsignal(number) is not before)
        time.sleep(0.2)  # it asks the hub once, then waits for the next look
        os.kill(os.getpid(), number)

    with plant.client("worker") as api:
        sender = threading.Thread(target=send)
        sender.start()
        started_s = time.monotonic()
        run_worker(api, tmp_path, poll_s=60)
        sender.join()
    assert time.monotonic() - started_s < 30, "the next look was waited for"
    assert signal.getsignal(number) is before


def test_a_cancelled_training_ends_within_a_heartbeat_and_leaves_nothing(
    plant: Plant, tmp_path: Path, world: Any
) -> None:
    plant.label(world.surfaces(12, labels=("none", "scratch")))
    order = plant.order(config={"architecture": "small", "steps": 1_000_000})
    said: list[str] = []
    with plant.client("worker") as api:
        worker = Worker(api, tmp_path, name="w1", limits=FAST, say=said.append, executor=LocalProcess())
        thread = threading.Thread(target=worker.step)
        thread.start()
        wait_for(lambda: plant.state(order)["state"] == "claimed")
        time.sleep(1.0)
        plant.admin.post(f"/orders/{order['id']}/cancel", {"reason": "wrong labels"})
        thread.join(timeout=30)
        assert not thread.is_alive()
    assert plant.state(order)["state"] == "cancelled"
    assert said[-1] == f"order {order['id']}: stopped before its end, the hub took it back"
    assert plant.admin.get("/bundles") == []


def test_a_killed_worker_is_followed_by_one_that_goes_on(plant: Plant, tmp_path: Path, world: Any) -> None:
    """SIGKILL of a real worker process and its training: the next one on this machine ends what it began."""
    plant.label(world.surfaces(12, labels=("none", "scratch")))
    order = plant.order(config={"architecture": "small", "steps": 500})
    code = (
        "import sys; from pathlib import Path; from edgewise.learn import LocalProcess, Worker; "
        "from edgewise.learn._worker import WorkerLimits; from edgewise.ports.api import HubApi\n"
        "if __name__ == '__main__': "
        "Worker(HubApi(sys.argv[1], sys.argv[2]), Path(sys.argv[3]), name='w1', executor=LocalProcess(), "
        "limits=WorkerLimits(poll_s=0.05, checkpoint_s=0.1)).step()"
    )
    script = tmp_path / "worker.py"
    script.write_text(code)
    url = f"http://127.0.0.1:{plant.port}"
    command = [sys.executable, str(script), url, plant.hub.tokens.text("worker"), str(tmp_path / "work")]
    first = subprocess.Popen(command, start_new_session=True)
    wait_for(lambda: any((tmp_path / "work").glob("states/*.checkpoint")), seconds=60)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    with plant.hub.store.write() as connection:  # its lease of two minutes has run out
        order_rows.change(connection, order["id"], now=plant.hub.now(), state="open", worker=None, lease_until=None)
    stages: list[float] = []

    class Watched(InProcess):
        def run(self, task: Any, blobs: Any, go_on: Any, checkpoint: Any = None) -> Any:
            def watch(what: str, share: float) -> None:
                go_on(what, share)
                if what == "train":
                    stages.append(share)

            return super().run(task, blobs, watch, checkpoint)

    with plant.client("worker") as api:
        Worker(api, tmp_path / "work", name="w2", limits=FAST, executor=Watched()).step()
    assert plant.state(order)["state"] == "returned"
    assert stages[0] > 0.2, "it went on where the first one was"
    assert not list((tmp_path / "work").glob("states/*"))


def test_the_best_of_a_sweep_is_a_candidate_like_any_other(plant: Plant, worker: Worker, world: Any) -> None:
    plant.label(world.surfaces(40, labels=("none", "scratch")))
    plan = {"axes": {"steps": [1, 60]}}
    order = plant.order(config={"architecture": "small", "sweep": json.dumps(plan)}, variants=["fp16"])
    assert worker.step()
    state = plant.state(order)
    assert (state["state"], state["error"]) == ("returned", None)
    assert state["candidate"]["log"][1].startswith("sweep: steps 60: ")
    manifest = plant.admin.get(f"/bundles/{state['candidate']['bundle']}")
    assert manifest["provenance"]["order"] == order["id"]
    assert manifest["provenance"]["data"]["steps"] == 60
    assert set(state["candidate"]["variants"]) <= {"fp16"}


def test_a_sweep_that_cannot_be_read_fails_with_one_sentence(plant: Plant, worker: Worker, world: Any) -> None:
    plant.label(world.surfaces(12, labels=("none", "scratch")))
    order = plant.order(config={"sweep": "{"})
    for _ in range(3):
        worker.step()
    state = plant.state(order)
    assert state["state"] == "failed"
    assert state["error"].startswith("config sweep is no JSON: ")
