"""Predictions as arrays, and quality as functions of weights, so that values and resampling share one code."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from edgewise.measure._intervals import Floats, Statistic, group_numbers, ratio
from edgewise.wire import NotValid, Prediction

Marks = npt.NDArray[np.bool_]
GOOD = "\0good"  # the class of all good labels together; a NUL keeps it apart from any label that a person gives


@dataclass(frozen=True, kw_only=True, slots=True)
class Recalls:
    """Recalls over some classes, and how they make one number: their mean.

    `members` bool (N, K) says which cases belong to a class, `hits` bool (N, K) which of them were met. With
    `all_needed` the mean does not exist where a class has no weight, else it is taken over those that have some.
    """

    members: Marks
    hits: Marks
    all_needed: bool = False

    def mean(self) -> Statistic:
        """Weights (R, N) -> (R,)."""
        each = self.each()

        def statistic(weights: Floats) -> Floats:
            recalls = each(weights)
            known = ~np.isnan(recalls)
            value = ratio(np.where(known, recalls, 0).sum(axis=1), known.sum(axis=1).astype(np.float64))
            return np.where(known.all(axis=1), value, np.nan) if self.all_needed else value

        return statistic

    def each(self) -> Statistic:
        """Weights (R, N) -> (R, K)."""
        members, hits = self.members.astype(np.float64), (self.members & self.hits).astype(np.float64)
        return lambda weights: ratio(weights @ hits, weights @ members)

    def groups(self, numbers: npt.NDArray[np.intp]) -> list[int]:
        """In how many groups each class occurs, K numbers."""
        return [len(np.unique(numbers[self.members[:, column]])) for column in range(self.members.shape[1])]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """N predictions in the order of their sample ids, so that no result depends on the order they came in."""

    predictions: tuple[Prediction, ...]
    numbers: npt.NDArray[np.intp]  # (N,) number of the group
    groups: int
    truth_good: Marks  # (N,)
    right: Marks  # (N,) the class is right, where all good labels are one class
    kind_right: Marks  # (N,) good against defective is right
    classes: tuple[str, ...]  # (N,) the true class of each

    def balanced(self) -> Recalls:
        """Recall of good and of defective, of any defect."""
        members = np.stack([self.truth_good, ~self.truth_good], axis=1)
        return Recalls(members=members, hits=np.repeat(self.kind_right[:, None], 2, axis=1), all_needed=True)

    def macro(self) -> Recalls:
        """Recall of each class that occurs; the labels that mean good are one class."""
        return self._of(self.classes, sorted(set(self.classes)))

    def good(self) -> Recalls:
        """Recall of good parts; all labels that mean good are one class."""
        return Recalls(members=self.truth_good[:, None], hits=self.right[:, None])

    def by_label(self, labels: Sequence[str]) -> Recalls:
        """Recall of each of these labels, as they were given."""
        return self._of([item.truth for item in self.predictions], labels)

    def has_both_kinds(self) -> bool:
        """Whether good and defective samples both occur."""
        return bool(self.truth_good.any() and not self.truth_good.all())

    def _of(self, given: Sequence[str], wanted: Sequence[str]) -> Recalls:
        members = np.array([[name == label for label in wanted] for name in given], dtype=bool)
        members = members.reshape(len(given), len(wanted))
        return Recalls(members=members, hits=np.repeat(self.right[:, None], len(wanted), axis=1))


def rows_of(predictions: Sequence[Prediction], good_labels: Collection[str]) -> Rows:
    """The predictions as rows.

    Raises:
        NotValid: two of them are about the same sample.
    """
    ordered = tuple(sorted(predictions, key=lambda item: item.sample))
    for before, after in pairwise(ordered):
        if before.sample == after.sample:
            raise NotValid(f"sample {after.sample} has two predictions, needs one each", code="sample_twice")
    # A group's name is only unique within its site.
    numbers, count = group_numbers([f"{item.site}\0{item.group}" if item.group else "" for item in ordered])
    classes = tuple(_class_of(item.truth, good_labels) for item in ordered)
    said = [_class_of(item.label, good_labels) for item in ordered]
    return Rows(
        predictions=ordered,
        numbers=numbers,
        groups=count,
        truth_good=np.array([name == GOOD for name in classes], dtype=bool),
        right=np.array([name == word for name, word in zip(classes, said, strict=True)], dtype=bool),
        kind_right=np.array(
            [(name == GOOD) == (word == GOOD) for name, word in zip(classes, said, strict=True)], dtype=bool
        ),
        classes=classes,
    )


def by_site(predictions: Sequence[Prediction]) -> dict[str, list[Prediction]]:
    """The predictions of each site, sites in the order of their names."""
    sites: dict[str, list[Prediction]] = {name: [] for name in sorted({item.site for item in predictions})}
    for item in predictions:
        sites[item.site].append(item)
    return sites


def by_slice(predictions: Sequence[Prediction], names: Iterable[str]) -> dict[str, list[Prediction]]:
    """The predictions in each of these slices, under ``slice:<name>``; one prediction may be in several or in none."""
    return {f"slice:{name}": [item for item in predictions if name in (item.slices or ())] for name in names}


def _class_of(label: str, good_labels: Collection[str]) -> str:
    return GOOD if label in good_labels else label
