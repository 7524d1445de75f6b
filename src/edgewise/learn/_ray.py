"""Trainings on a Ray cluster: the same work as on this machine, with a GPU for each where the cluster has any."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgewise import __version__
from edgewise.learn._checkpoint import Checkpoint
from edgewise.learn._executor import LOOK_S, LocalProcess, TrainingLimits, outcome
from edgewise.learn._task import Made, Task, blobs_of
from edgewise.learn._trainer import Cancelled, Progress
from edgewise.ports import FolderBlobs
from edgewise.wire import EdgewiseError, NotNow, NotValid

DATA_BYTES_MAX = 8_000_000_000  # of one training's samples, in the cluster's shared memory


class RayCluster:
    """Trainings as tasks of a Ray cluster.

    A machine of the cluster needs edgewise of the very same version with the extra `learn`. A task that is lost with
    its machine is tried once more by Ray; checkpoints are not used there.

    Args:
        address: `auto` for the cluster that runs on this machine, `local` for one of our own, or `ray://host:port`.
    Raises:
        NotValid: Ray is not installed. NotNow: no cluster answers.
    """

    def __init__(self, address: str = "auto", limits: TrainingLimits | None = None) -> None:
        try:
            import ray
        except ImportError:
            raise NotValid(
                "Ray is not installed here; install it with: pip install 'edgewise[ray]'", code="ray_missing"
            ) from None
        self._ray = ray
        self._limits = limits or TrainingLimits()
        if not ray.is_initialized():
            try:
                ray.init(address=address, log_to_driver=False, include_dashboard=False if address == "local" else None)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise NotNow(
                    f"no Ray cluster answers at {address!r}: {' '.join(str(error).split())[:300]}; "
                    "start one with: ray start --head",
                    code="ray_away",
                ) from error
        self._has_gpus = self._found("GPU") >= 1

    @property
    def parallel(self) -> int:
        """One for each GPU, or for each core where there is none."""
        return max(1, int(self._found("GPU" if self._has_gpus else "CPU")))

    def _found(self, what: str) -> float:
        """How much of a resource the whole cluster has."""
        return float(self._ray.cluster_resources().get(what, 0))  # type: ignore[no-untyped-call]

    def run(self, task: Task, blobs: FolderBlobs, go_on: Progress, checkpoint: Checkpoint | None = None) -> Made:
        """The training on some machine of the cluster. See `Executor.run`."""
        del checkpoint  # the machine that goes on need not be the one that began
        ray = self._ray
        data = self._ray.put(self._data(task, blobs))
        remote = ray.remote(max_retries=1)(_train_there).options(**self._resources(task))
        future = remote.remote(task, data, __version__, self._limits)
        waited_s = 0.0
        try:
            while not ray.wait([future], timeout=LOOK_S)[0]:
                go_on("run on Ray", 0.0)
                waited_s += LOOK_S
                if waited_s > self._limits.seconds_max:
                    raise NotValid(
                        f"the training has not ended on Ray after {waited_s:.0f} s, at most "
                        f"{self._limits.seconds_max:g} s are allowed; look at the cluster with: ray status",
                        code="training_too_long",
                    )
        except (Cancelled, NotValid):
            ray.cancel(future, force=True)
            raise
        try:
            kind, value = ray.get(future)
        except ray.exceptions.RayError as error:
            raise NotValid(
                f"the training was lost on the Ray cluster ({type(error).__name__}): "
                f"{' '.join(str(error).split())[:300]}",
                code="training_ended",
            ) from error
        return outcome(kind, value, task)

    def _data(self, task: Task, blobs: FolderBlobs) -> dict[str, bytes]:
        wanted = blobs_of(task.revision)
        total = sum(blobs.size(sha256) for sha256 in wanted)
        if total > DATA_BYTES_MAX:
            raise NotValid(
                f"the samples have {total / 1e9:.1f} GB, at most {DATA_BYTES_MAX / 1e9:g} GB go to a Ray cluster; "
                "train on this machine, or on fewer samples",
                code="data_too_large",
            )
        return {sha256: blobs.get(sha256) for sha256 in wanted}

    def _resources(self, task: Task) -> Mapping[str, Any]:
        threads = task.order.config.get("threads", 1)
        wants_gpu = self._has_gpus and task.order.config.get("device") != "cpu"
        memory = {} if self._limits.memory_bytes_max is None else {"memory": self._limits.memory_bytes_max}
        return {"num_cpus": threads if isinstance(threads, int) else 1, "num_gpus": 1 if wants_gpu else 0, **memory}


def _train_there(task: Task, data: Mapping[str, bytes], version: str, limits: TrainingLimits) -> Any:
    """On a machine of the cluster: in a process of its own there, within the same bounds as on the worker's machine."""
    if version != __version__:
        text = (
            f"this machine of the cluster has edgewise {__version__}, the worker {version}; install the same version "
            "on all of them"
        )
        return "refused", ("NotValid", text, "version_differs")
    with tempfile.TemporaryDirectory(prefix="edgewise-") as folder:
        blobs = FolderBlobs(Path(folder))
        for sha256, content in data.items():
            blobs.put_as(sha256, content)
        try:
            return "made", LocalProcess(limits).run(task, blobs, lambda _what, _share: None)
        except EdgewiseError as error:
            return "refused", (type(error).__name__, str(error), error.code)
