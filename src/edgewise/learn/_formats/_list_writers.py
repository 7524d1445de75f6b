"""Writing a list of labels beside the files, as `labels.csv` or `labels.parquet`."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgewise.learn._dataset import FACTS, NOT_FEATURES, ROW_MEDIA_TYPE, TrainingSample
from edgewise.learn._formats._files import Written, facts_of, mask_of, write_contents
from edgewise.learn._formats._listed import CSV, PARQUET, number_in, pyarrow
from edgewise.learn._formats._rows import INDEX_COLUMNS, MASKS
from edgewise.wire import Annotation, NotValid, digest, encode, loads

FILE_COLUMNS = ("file", "label", *FACTS, "id", "annotation")
EXACT_MAX = 2**53  # whole numbers beyond it are not exact as floats


def write_csv(samples: Sequence[TrainingSample], folder: Path) -> Written:
    """`labels.csv`, the pictures in `images/`, masks in `masks/`; rows of numbers as columns."""
    made = _Rows(samples, folder)
    out = io.StringIO()
    writer = csv.DictWriter(out, made.columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(made.rows)
    (folder / CSV).write_bytes(out.getvalue().encode("utf-8", "replace"))
    lost = list(made.lost)
    if taken := made.taken_for_numbers():
        lost.append(f"columns {', '.join(taken)} are text that looks like numbers: read from CSV they are features")
    return Written(count=len(made.rows), lost=tuple(lost), left_out=tuple(made.failed))


def write_parquet(samples: Sequence[TrainingSample], folder: Path) -> Written:
    """The same list as `labels.parquet`.

    Raises:
        NotValid: pyarrow is not installed.
    """
    parquet, arrow = pyarrow()
    made = _Rows(samples, folder)
    table = {
        name: arrow.array(
            [row.get(name) for row in made.rows],
            arrow.float64() if name in made.features else arrow.string(),
            from_pandas=True,
        )
        for name in made.columns
    }
    parquet.write_table(arrow.table(table), folder / PARQUET)
    return Written(count=len(made.rows), lost=tuple(made.lost), left_out=tuple(made.failed))


class _Rows:
    """The rows of a list of these samples, their files written.

    Attributes:
        features: columns of numbers.
    """

    def __init__(self, samples: Sequence[TrainingSample], folder: Path) -> None:
        numbers = {index: held for index, sample in enumerate(samples) if (held := numbers_of(sample)) is not None}
        rest = [index for index in range(len(samples)) if index not in numbers]
        names, self.failed = write_contents([samples[index] for index in rest], folder / "images")
        placed = {rest[place]: name for place, name in names.items()}
        self.features = {name for held in numbers.values() for name in held}
        self.rows: list[dict[str, Any]] = []
        self.lost: list[str] = []
        hidden: set[str] = set()
        for index, sample in enumerate(samples):
            if index not in numbers and index not in placed:
                continue
            facts = facts_of(sample)
            hidden |= set(facts) & self.features - set(numbers.get(index, ()))
            row = {name: text for name, text in facts.items() if name not in self.features}
            row |= {"label": sample.label, "id": sample.name}
            annotation = self._annotation(sample, folder)
            if annotation is not None:
                row["annotation"] = encode(annotation).decode()
            self.rows.append(row | (numbers[index] if index in numbers else {"file": placed[index]}))
        if hidden:
            told = ", ".join(sorted(hidden))
            self.lost.append(f"{told} of some samples were left out: features of others have these names")
        self.columns = [name for name in FILE_COLUMNS if any(name in row for row in self.rows)] or ["label"]
        self.columns += sorted({name for row in self.rows for name in row} - set(self.columns))

    def _annotation(self, sample: TrainingSample, folder: Path) -> Annotation | None:
        """The annotation with the mask that was written, under the digest of its bytes."""
        if sample.annotation is None and sample.mask is None:
            return None
        annotation = (sample.annotation or Annotation()).model_copy(update={"mask": None})
        mask = mask_of(sample, self.failed)
        if mask is None:
            return annotation
        (folder / MASKS).mkdir(exist_ok=True)
        (folder / MASKS / f"{digest(mask)}.png").write_bytes(mask)
        return annotation.model_copy(update={"mask": digest(mask)})

    def taken_for_numbers(self) -> list[str]:
        """Columns of text that a reader without types takes for features."""
        bare = [row for row in self.rows if "file" not in row]
        found = []
        for name in sorted(set(self.columns) - self.features - NOT_FEATURES):
            numbers = [number_in(row.get(name)) for row in bare]
            if any(one is not None for one in numbers) and all(one is None or math.isfinite(one) for one in numbers):
                found.append(name)
        return found


def numbers_of(sample: TrainingSample) -> dict[str, float] | None:
    """A row of plain numbers; None for anything else, which becomes a file of its own."""
    if sample.media_type != ROW_MEDIA_TYPE:
        return None
    try:
        row = loads(sample.read())
    except (NotValid, OSError):
        return None
    if not isinstance(row, dict) or not row or not all(_may_be_column(name) for name in row):
        return None
    return {name: float(value) for name, value in row.items()} if all(map(_is_exact, row.values())) else None


def _may_be_column(name: str) -> bool:
    return name not in NOT_FEATURES and name not in INDEX_COLUMNS and name == name.strip() and name.isprintable()


def _is_exact(value: Any) -> bool:
    if type(value) is int:
        return abs(value) <= EXACT_MAX
    return type(value) is float and math.isfinite(value)
