"""Labelled samples, from a folder that a person made (`_read`) or from a dataset revision of the hub.

Nothing is decoded here. A sample knows how to read its bytes, so that a folder of a million pictures costs a list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from edgewise.wire import Annotation, Decision, NotValid

GOOD_WORDS = ("none", "free", "good", "ok", "normal")
GROUP_COLUMNS = ("group", "sequence", "part_group", "patient")
PICTURE_ENDINGS = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".webp": "image/webp",
}
ROW_MEDIA_TYPE = "application/json"
MEDIA_TYPES = PICTURE_ENDINGS | {".json": ROW_MEDIA_TYPE}  # of a row or window that is a file of its own
# Facts about a sample, in every format that has a place for them; none of them is ever a feature.
FACTS = (
    "site", "group", "device", "taken_at", "inclusion_probability", "labelled_by", "labelled_at", "uncertain", "weight"
)  # fmt: skip
NOT_FEATURES = frozenset({"file", "id", "label", "annotation", "split", *FACTS, *GROUP_COLUMNS})


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSample:
    """One labelled picture or row, its bytes read only when asked for.

    Attributes:
        name: file name, or sample id of the hub.
        group: samples of one group are near-copies (one part, one position): never split over two sides.
        uncertain: the label is in doubt; not trained on, scored apart.
        new: labelled since the base was trained; the new and the rest are trained half and half.
        columns: every column of the list of labels, or every fact that another format tells, as text.
        mask: reads the PNG that `annotation.mask` names.
        decision: what a bundle said about it, to be shown to who labels it; nothing is trained on it.
    """

    name: str
    label: str
    group: str
    read: Callable[[], bytes]
    media_type: str = "image/jpeg"
    site: str = ""
    uncertain: bool = False
    new: bool = False
    weight: float = 1.0
    columns: Mapping[str, str] = field(default_factory=dict)
    annotation: Annotation | None = None
    mask: Callable[[], bytes] | None = None
    taken_at: datetime | None = None
    device: str | None = None
    decision: Decision | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """Labelled samples with what is known about them as a whole.

    Attributes:
        said: a sentence for each thing that the reader left out, changed or did not understand.
    """

    source: str
    samples: tuple[TrainingSample, ...]
    good_labels: tuple[str, ...] = ()
    group_column: str | None = None
    said: tuple[str, ...] = ()

    @property
    def certain(self) -> tuple[TrainingSample, ...]:
        """Samples whose label is not in doubt: the ones to train on."""
        return tuple(sample for sample in self.samples if not sample.uncertain)

    @property
    def uncertain(self) -> tuple[TrainingSample, ...]:
        return tuple(sample for sample in self.samples if sample.uncertain)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(sorted({sample.label for sample in self.samples}))

    @property
    def is_table(self) -> bool:
        return bool(self.samples) and self.samples[0].media_type == ROW_MEDIA_TYPE


def good_labels_of(labels: Iterable[str], declared: Sequence[str] = ()) -> tuple[str, ...]:
    """The labels that mean a good part: the declared ones, else those with a usual name, else none.

    Raises:
        NotValid: a declared label does not occur.

    >>> good_labels_of(["crack", "free", "none"])
    ('free', 'none')
    >>> good_labels_of(["crack", "fine"], ["fine"])
    ('fine',)
    >>> good_labels_of(["crack", "scratch"])
    ()
    """
    known = sorted(set(labels))
    for label in declared:
        if label not in known:
            raise NotValid(
                f"the good label {label!r} does not occur; the labels are {', '.join(known)}; name one of these",
                code="good_label_unknown",
            )
    return tuple(declared) if declared else tuple(label for label in known if label.casefold() in GOOD_WORDS)


def grouped_part(samples: Sequence[TrainingSample], *, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices (kept, part): about `share` of the samples, whole groups only, each label represented where it can be.

    A label that lives in one group stays wholly on the kept side: what is not trained on cannot be learned.

    >>> from functools import partial
    >>> one = partial(TrainingSample, read=bytes)
    >>> made = [one(name=str(n), label="ab"[n % 2], group=str(n // 4)) for n in range(20)]
    >>> kept, part = grouped_part(made, share=0.2, seed=1)
    >>> len(kept), len(part)
    (16, 4)
    """
    import random

    groups: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        groups.setdefault(sample.group, []).append(index)
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    total = Counter(sample.label for sample in samples)
    left, taken = Counter(total), Counter[str]()
    part: list[int] = []
    for name in order:
        inside = Counter(samples[index].label for index in groups[name])
        wanted = sum(min(count, share * total[label] - taken[label]) for label, count in inside.items())
        fits = len(part) + len(groups[name]) <= max(1.5 * share * len(samples), 1)
        # A group is taken when it brings labels that the part still lacks and leaves some of each label to learn from.
        if wanted > 0 and fits and all(left[label] - count >= 2 for label, count in inside.items()):
            part += groups[name]
            taken += inside
            left -= inside
    chosen = set(part)
    return [index for index in range(len(samples)) if index not in chosen], sorted(part)
