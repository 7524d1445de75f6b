"""Training on a folder, without any hub: what ``edgewise learn train`` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from edgewise.learn._dataset import Dataset
from edgewise.learn._read import read_dataset
from edgewise.learn._recorded import Wanted, read_recorded
from edgewise.learn._train import TrainedBundle, train
from edgewise.learn._trainer import ConfigValue
from edgewise.ports import write_bundle
from edgewise.wire import NotValid


def train_folder(
    data_dir: Path | str,
    output: Path | str,
    *,
    good: Sequence[str] = (),
    group: str | None = None,
    trainer: str | None = None,
    target: str | None = None,
    config: Mapping[str, ConfigValue] | None = None,
    seed: int = 0,
    seconds: float | None = None,
    progress: Callable[[str, float], None] = lambda _what, _share: None,
    tell: Callable[[str], None] = lambda _sentence: None,
) -> TrainedBundle:
    """Train on the labelled data of a folder (see `read_dataset`) and write the bundle.

    Args:
        output: folder of the bundle; it must not exist, or be empty. Nothing is written unless the training succeeds.
        trainer: by default `vision` for pictures and `tabular` for rows of numbers, `regression` with a target, and
            `forecast` with a target and a horizon, on recorded series (`read_recorded`).
        target: column of a table whose numbers are to be stated (docs/values.md).
        config: settings of the trainer (docs/learn.md).
        tell: gets each sentence about what the reader left out or did not understand, before the training.
        seconds: about how long the training may take; None leaves it to the trainer.
    Raises:
        NotValid: as `read_dataset`, `train` and `write_bundle` say.
    """
    folder = Path(output)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise NotValid(f"{folder} exists already; name a new folder for the bundle", code="folder_taken")
    if not folder.absolute().parent.is_dir():
        raise NotValid(f"{folder.absolute().parent} is not a folder; make it first", code="folder_missing")
    settings = dict(config or {})
    settings |= ({} if seconds is None else {"seconds": seconds}) | ({} if target is None else {"target": target})
    if trainer == "forecast" or (trainer is None and target is not None and "horizon_s" in settings):
        trainer = "forecast"
        dataset = read_series(data_dir, settings)
    else:
        dataset = read_dataset(data_dir, good=good, group=group, target=target)
    for sentence in dataset.said:
        tell(sentence)
    made = train(
        dataset.samples,
        now=datetime.now(UTC),
        trainer=trainer or _trainer_for(dataset, target),
        name=_bundle_name(dataset.source),
        good_labels=dataset.good_labels,
        seed=seed,
        config=settings,
        group_column=dataset.group_column,
        progress=progress,
    )
    write_bundle(folder, made.manifest, made.blobs)
    return made


def read_series(data_dir: Path | str, settings: dict[str, ConfigValue]) -> Dataset:
    """The windows of recorded series, each labelled by its target; the settings say then how these were cut.

    Args:
        settings: `target` and `horizon_s`, and the others of `forecast` (docs/values.md); `columns` and `step_s` are
            filled in.
    Raises:
        NotValid: as `read_recorded` says, or no target.
    """
    target = settings.get("target")
    if not isinstance(target, str):
        raise NotValid("a forecast needs the column that it tells ahead; name it with --target", code="config_invalid")
    found = read_recorded(data_dir, Wanted.of_config(settings, target))
    settings |= {"columns": ",".join(found.columns), "step_s": found.step_s}
    return found.dataset


def _trainer_for(dataset: Dataset, target: str | None) -> str:
    if target is not None:
        return "regression"
    return "tabular" if dataset.is_table else "vision"


def _bundle_name(text: str) -> str:
    """A folder's name as the name of a bundle.

    >>> _bundle_name("plant a (new)")
    'plant-a--new'
    """
    name = "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "-" for char in text)
    return name.strip("-._")[:100] or "model"
