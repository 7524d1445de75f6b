"""The readiness of a dataset: what was counted, what was found, and the word that follows from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from edgewise.learn._assess import _copies, _doubts
from edgewise.learn._assess._features import Looked, look
from edgewise.learn._dataset import Dataset, TrainingSample
from edgewise.learn._train import UNREADABLE_SHARE_MAX
from edgewise.measure import Curve
from edgewise.wire import digest

Severity = Literal["error", "warning", "note"]
Progress = Callable[[str, float], None]

LOOKED_MAX = 20_000  # pictures; of more a part is looked at, chosen by a hash of their names
NAMED_MAX = 50  # samples that one finding names
RARE = 10  # samples of a class: with fewer neither training nor the gate can tell much
RARE_GROUPS = 3
IMBALANCE = 20.0
DOUBTS_USUAL = 0.03  # of the labels: clean data has about so many samples at the border of two classes
SITES_APART = 0.8  # AUC of telling two sites apart
SPLIT_COLUMNS = ("split", "source_split", "subset", "fold")
TARGET = 0.9


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that a person should know before training.

    Attributes:
        samples: names of those concerned, at most 50; `count` is how many there are.
    """

    severity: Severity
    code: str
    text: str
    count: int = 0
    samples: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Assessment:
    """What was counted and found. `plain` gives it as JSON values."""

    word: Literal["ready", "usable with care", "not ready"]
    source: str
    samples: int
    looked_at: int
    groups: int
    by_site: dict[str, dict[str, int]]  # samples of each site by label
    findings: tuple[Finding, ...]
    plain_recall: float | None  # mean recall of a plain model on groups that it never saw
    sites_apart: dict[str, float]  # AUC of telling two sites apart, by "one | other"
    curve: dict[str, Any] | None

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def assess(
    dataset: Dataset, *, target: float = TARGET, seed: int = 0, progress: Progress = lambda _what, _share: None
) -> Assessment:
    """Look at every sample once and say whether the data is ready to learn from.

    Args:
        target: mean recall over classes for which the number of labels is estimated, 0 to 1.
    Raises:
        NotValid: no sample can be read.
    """
    certain = dataset.certain
    chosen = _part(certain)
    looked = look(chosen, lambda what, share: progress(what, 0.5 * share))
    labels = [sample.label for sample in looked.samples]
    groups = [f"{sample.site}\0{sample.group}" for sample in looked.samples]
    findings = [*_of_reading(chosen, looked), *_of_counts(certain), *_of_structure(dataset)]
    progress("compare", 0.55)
    findings += _of_copies(looked, groups)
    progress("doubts", 0.7)
    outside = _doubts.outside(looked.features, labels, groups, seed)
    findings += _of_doubts(outside, looked, labels)
    progress("sites", 0.8)
    light = [] if looked.looks is None else [looked.looks]  # labels must not hang on it, sites may
    seen = np.hstack([looked.features, *light])
    apart = _doubts.sites_apart(seen, [sample.site for sample in looked.samples], groups, seed)
    findings += _of_sites(apart, looked)
    progress("curve", 0.9)
    curve = _doubts.curve_of(looked.features, labels, groups, seed)
    told, finding = _of_curve(curve, target, len(labels))
    findings += finding
    order = {"error": 0, "warning": 1, "note": 2}
    findings.sort(key=lambda one: order[one.severity])
    worst = findings[0].severity if findings else "note"
    return Assessment(
        word="not ready" if worst == "error" else "usable with care" if worst == "warning" else "ready",
        source=dataset.source,
        samples=len(dataset.samples),
        looked_at=len(looked.samples),
        groups=len({(sample.site, sample.group) for sample in certain}),
        by_site=_by_site(certain),
        findings=tuple(findings),
        plain_recall=None if outside is None else outside.recall,
        sites_apart={f"{one} | {other}": round(value, 3) for (one, other), value in sorted(apart.items())},
        curve=told,
    )


def _part(samples: Sequence[TrainingSample]) -> list[TrainingSample]:
    if len(samples) <= LOOKED_MAX:
        return list(samples)
    order = sorted(range(len(samples)), key=lambda index: digest(samples[index].name.encode()))
    return [samples[index] for index in sorted(order[:LOOKED_MAX])]


def _by_site(samples: Iterable[TrainingSample]) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = {}
    for sample in samples:
        found.setdefault(sample.site, Counter())[sample.label] += 1
    return {site: dict(sorted(counts.items())) for site, counts in sorted(found.items())}


def _finding(severity: Severity, code: str, text: str, names: Sequence[str] = ()) -> Finding:
    return Finding(severity=severity, code=code, text=text, count=len(names), samples=tuple(names[:NAMED_MAX]))


def _of_reading(chosen: Sequence[TrainingSample], looked: Looked) -> list[Finding]:
    if not looked.unreadable:
        return []
    many = len(looked.unreadable) > UNREADABLE_SHARE_MAX * len(chosen)
    text = (
        f"{len(looked.unreadable)} of {len(chosen)} samples cannot be read, first {looked.unreadable[0][0]}: "
        f"{looked.unreadable[0][1]}; replace or remove them"
    )
    return [_finding("error" if many else "warning", "unreadable", text, [name for name, _ in looked.unreadable])]


def _of_counts(samples: Sequence[TrainingSample]) -> list[Finding]:
    counts = Counter(sample.label for sample in samples)
    groups: dict[str, set[tuple[str, str]]] = {}
    for sample in samples:
        groups.setdefault(sample.label, set()).add((sample.site, sample.group))
    if len(counts) < 2:
        text = f"only one class, {next(iter(counts), 'none')!r}, is labelled; at least two are needed"
        return [_finding("error", "one_class", text)]
    found = []
    rare = [name for name, count in sorted(counts.items()) if count < RARE or len(groups[name]) < RARE_GROUPS]
    if rare:
        told = ", ".join(f"{name} ({counts[name]} in {len(groups[name])} groups)" for name in rare)
        text = f"few samples of {told}; needs {RARE} samples in {RARE_GROUPS} groups to be learned and judged at all"
        found.append(_finding("warning", "rare_class", text))
    (most, high), (least, low) = counts.most_common()[0], counts.most_common()[-1]
    if high > IMBALANCE * low:
        text = f"{most} has {high / low:.0f} times as many samples as {least}; upload and label more of the rare ones"
        found.append(_finding("warning", "imbalance", text))
    sites = _by_site(samples)
    for site, own in sites.items() if len(sites) > 1 else ():
        missing = sorted(set(counts) - set(own))
        if missing:
            text = f"site {site or '(unnamed)'} has no sample of {', '.join(missing)}"
            found.append(_finding("note", "class_missing_at_site", text))
    return found


def _of_structure(dataset: Dataset) -> list[Finding]:
    """What is not told of the samples at all."""
    samples = dataset.samples
    found = [_finding("note", "reader", f"of the reader: {sentence}") for sentence in dataset.said]
    if all(sample.group == sample.name for sample in samples):
        text = (
            "nothing says which samples are of one part, place or patient (a column group); without it copies stand on "
            "both sides of a split and every score flatters"
        )
        found.append(_finding("warning", "no_groups", text))
    if len({sample.site for sample in samples}) < 2:
        text = "all samples are of one site, or name none (a column site): nothing can be said of others"
        found.append(_finding("note", "one_site", text))
    if all(sample.taken_at is None for sample in samples):
        found.append(_finding("note", "no_times", "no sample says when it was taken (a column taken_at)"))
    if not dataset.good_labels:
        text = f"no label is known to mean good; the labels are {', '.join(dataset.labels[:20])}; name it with --good"
        found.append(_finding("note", "no_good_label", text))
    if dataset.uncertain:
        text = f"{len(dataset.uncertain)} samples are marked as uncertain; they are not trained on"
        found.append(_finding("note", "uncertain", text, [sample.name for sample in dataset.uncertain]))
    return found


def _of_copies(looked: Looked, groups: Sequence[str]) -> list[Finding]:
    samples, found = looked.samples, []
    same = _copies.same(looked.digests)
    split = _split_of(samples)
    two = [places for places in same if len({samples[place].label for place in places}) > 1]
    if two:
        names = [samples[place].name for places in two for place in places]
        text = f"{len(two)} contents have two labels each, first {samples[two[0][0]].name}; decide which one holds"
        found.append(_finding("error", "two_labels", text, names))
    leaks = [places for places in same if split and len({split[place] for place in places}) > 1]
    if leaks:
        names = [samples[place].name for places in leaks for place in places]
        text = f"{len(leaks)} contents stand on two sides of the given split; scores on it cannot be believed"
        found.append(_finding("error", "leak", text, names))
    torn = _torn(groups, split) if split else []
    if torn:
        text = f"{len(torn)} groups stand on two sides of the given split, first {torn[0]!r}; split whole groups"
        found.append(_finding("error", "group_leak", text, torn))
    across = [places for places in same if len({groups[place] for place in places}) > 1]
    if across:
        names = [samples[place].name for places in across for place in places]
        text = f"{len(across)} contents occur in several groups; remove all but one, or join the groups"
        found.append(_finding("warning", "copies", text, names))
    if looked.marks is not None:
        pairs, bound = _copies.near(looked.marks, groups, looked.digests)
        if pairs:
            names = [samples[place].name for pair in pairs for place in pair]
            text = (
                f"{len(pairs)} pairs of pictures of different groups are nearly the same (likeness from {bound:.2f}), "
                f"first {names[0]} and {names[1]}; if they show one part, join their groups"
            )
            found.append(_finding("warning", "near_copies", text, names))
    return found


def _split_of(samples: Sequence[TrainingSample]) -> list[str]:
    """The side of each sample, where a column tells one."""
    name = next((name for name in SPLIT_COLUMNS if any(sample.columns.get(name) for sample in samples)), None)
    return [] if name is None else [sample.columns.get(name, "") for sample in samples]


def _torn(groups: Sequence[str], split: Sequence[str]) -> list[str]:
    sides: dict[str, set[str]] = {}
    for group, side in zip(groups, split, strict=True):
        sides.setdefault(group, set()).add(side)
    return sorted(group.partition("\0")[2] for group, found in sides.items() if len(found) > 1)


def _of_doubts(outside: _doubts.Outside | None, looked: Looked, labels: Sequence[str]) -> list[Finding]:
    if outside is None:
        text = "too few samples or groups of each class to say whether labels agree with what is shown"
        return [_finding("note", "labels_unchecked", text)]
    if outside.recall < _doubts.TRUST_MIN:
        text = f"a plain model reaches {outside.recall:.2f} on groups it never saw: too weak to doubt single labels"
        return [_finding("note", "labels_unchecked", text)]
    found = _doubts.doubts(outside, labels)
    if not found:
        return []
    first = found[0]
    name = looked.samples[first.index].name
    text = (
        f"{len(found)} labels disagree with samples of other groups, first {name}: labelled {labels[first.index]}, "
        f"looks like {first.seems}; look at them once more (not all are wrong, and others are that this does not see)"
    )
    names = [looked.samples[doubt.index].name for doubt in found]
    severity: Severity = "warning" if len(found) > DOUBTS_USUAL * len(labels) else "note"
    return [_finding(severity, "labels_doubtful", text, names)]


def _of_sites(apart: dict[tuple[str, str], float], looked: Looked) -> list[Finding]:
    found = []
    where = np.array([sample.site for sample in looked.samples])
    for (one, other), value in sorted(apart.items(), key=lambda item: -item[1]):
        if value < SITES_APART:
            continue
        why = ""
        if looked.looks is not None:
            means = [looked.looks[where == site].mean(axis=0) for site in (one, other)]
            spread = looked.looks.std(axis=0) + 1e-6
            shift = (means[1] - means[0]) / spread
            place = int(np.abs(shift).argmax())
            why = f"; most in {('brightness', 'contrast', 'sharpness')[place]} ({shift[place]:+.1f} deviations)"
        text = (
            f"sites {one} and {other} look different (told apart with an AUC of {value:.2f}{why}): judge each by itself"
        )
        found.append(_finding("warning", "sites_differ", text))
    return found


def _of_curve(curve: Curve | None, target: float, labels: int) -> tuple[dict[str, Any] | None, list[Finding]]:
    if curve is None:
        text = "too few samples or groups to estimate how many labels a target needs"
        return None, [_finding("note", "curve_unknown", text)]
    need = curve.needs(target)
    told: dict[str, Any] = {
        "target": target,
        "now": round(curve.best, 4),
        "labels": curve.largest,
        "ceiling": round(curve.ceiling, 4),
    }
    points = [(size, curve.at(size)) for size in np.geomspace(max(5, curve.largest / 20), 4 * curve.largest, 24)]
    told["points"] = [[round(size), round(max(0.0, score), 4)] for size, score in points]
    if need is None:
        text = (
            f"how many labels a mean recall of {target:.2f} needs cannot be told from these {labels}: a plain model "
            f"reaches {curve.best:.2f} and would stay below {curve.ceiling:.2f}; a trained network may do better"
        )
        return told | {"need": None}, [_finding("note", "labels_needed_unknown", text)]
    if need.middle < curve.smallest:
        text = (
            f"a plain model reaches a mean recall of {target:.2f} with fewer than the {curve.smallest} labels tried; "
            f"with {curve.largest} it reaches {curve.best:.2f}"
        )
        return told | {"need": asdict(need)}, [_finding("note", "labels_enough", text)]
    high = f"{need.high}" if need.high is not None else "more than can be told"
    text = (
        f"a plain model needs about {need.middle} labels ({need.low} to {high}) for a mean recall of {target:.2f}; it "
        f"reaches {curve.best:.2f} with {curve.largest}, and a trained network usually needs fewer"
    )
    return told | {"need": asdict(need)}, [_finding("note", "labels_needed", text)]
