"""Labelled samples in, a checked candidate bundle out. A client of the hub, exactly as a device is.

The names load on first use: reading a folder needs no PyTorch, and `edgewise --help` needs nothing at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgewise._late import late_names

if TYPE_CHECKING:
    from edgewise.learn._dataset import Dataset, TrainingSample, good_labels_of
    from edgewise.learn._executor import Executor, InProcess, LocalProcess, TrainingLimits
    from edgewise.learn._folder import read_series, train_folder
    from edgewise.learn._formats import WRITERS, Written, write_dataset
    from edgewise.learn._import import Imported, import_model
    from edgewise.learn._import_spec import ImportSpec, read_spec
    from edgewise.learn._mlflow import fetch_model
    from edgewise.learn._ray import RayCluster
    from edgewise.learn._read import read_dataset
    from edgewise.learn._robust import robustness
    from edgewise.learn._score import score, score_samples
    from edgewise.learn._site import make_site_variant
    from edgewise.learn._sweep import SweepPlan, Swept, read_plan, run_sweep, sweep_folder
    from edgewise.learn._train import TrainedBundle, train
    from edgewise.learn._trainer import TRAINERS, Cancelled, Fitted, Job, Trainer
    from edgewise.learn._variants import Variants, make_variants
    from edgewise.learn._worker import Worker, run_worker

__all__ = [
    "TRAINERS",
    "WRITERS",
    "Cancelled",
    "Dataset",
    "Executor",
    "Fitted",
    "ImportSpec",
    "Imported",
    "InProcess",
    "Job",
    "LocalProcess",
    "RayCluster",
    "SweepPlan",
    "Swept",
    "TrainedBundle",
    "Trainer",
    "TrainingLimits",
    "TrainingSample",
    "Variants",
    "Worker",
    "Written",
    "fetch_model",
    "good_labels_of",
    "import_model",
    "make_site_variant",
    "make_variants",
    "read_dataset",
    "read_plan",
    "read_series",
    "read_spec",
    "robustness",
    "run_sweep",
    "run_worker",
    "score",
    "score_samples",
    "sweep_folder",
    "train",
    "train_folder",
    "write_dataset",
]

_HOMES = {
    "_dataset": ("Dataset", "TrainingSample", "good_labels_of"),
    "_executor": ("Executor", "InProcess", "LocalProcess", "TrainingLimits"),
    "_folder": ("read_series", "train_folder"),
    "_formats": ("WRITERS", "Written", "write_dataset"),
    "_read": ("read_dataset",),
    "_import": ("Imported", "import_model"),
    "_import_spec": ("ImportSpec", "read_spec"),
    "_mlflow": ("fetch_model",),
    "_ray": ("RayCluster",),
    "_robust": ("robustness",),
    "_score": ("score", "score_samples"),
    "_sweep": ("SweepPlan", "Swept", "read_plan", "run_sweep", "sweep_folder"),
    "_train": ("TrainedBundle", "train"),
    "_trainer": ("TRAINERS", "Cancelled", "Fitted", "Job", "Trainer"),
    "_site": ("make_site_variant",),
    "_variants": ("Variants", "make_variants"),
    "_worker": ("Worker", "run_worker"),
}

__getattr__ = late_names(__name__, _HOMES)
