"""Did a release help? What speaks for and against it, beside the release that it replaced.

Three kinds of evidence, the surest first: the same frames decided by both and labelled; audit samples before and after,
site by site; operators' overrides before and after, device by device. The last two compare different days, so a change
of the world looks like a change of the release: they are told, and they decide only where there is nothing better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal, TypeAlias

from edgewise.measure._intervals import student_quantile, wilson
from edgewise.wire import Metric, NotValid

Word: TypeAlias = Literal["helped", "hurt", "no difference seen", "cannot tell"]
Counted: TypeAlias = tuple[int, int]  # (right, total), or (overrides, decisions)

LEVEL = 0.95
Z = 1.959964  # the normal quantile of LEVEL, both sides
APART_MIN = 10  # labelled frames on which the two differ; a coin gives 9 of 10 or more one time in fifty. Our choice
AUDIT_MIN = 20  # audit labels of either release; our choice
DEVICES_MIN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Helped:
    """The word, and each kind of evidence as new minus old, in shares; more is better in all of them."""

    word: Word
    text: str
    same_frames: Metric | None  # wins minus losses over both; n are the frames on which one alone was right
    audit: Metric | None  # accuracy on audit samples; n are the labels of the new release
    overrides: Metric | None  # decisions that no operator overrode; n are devices


def did_it_help(
    *,
    wins: int,
    losses: int,
    audit_old: Mapping[str, Counted],
    audit_new: Mapping[str, Counted],
    overrides_old: Mapping[str, Counted],
    overrides_new: Mapping[str, Counted],
) -> Helped:
    """The word on one release.

    Args:
        wins, losses: labelled frames that both decided and that the new one, or the old one, alone decided right.
        audit_old, audit_new: (right, total) labelled audit samples by site.
        overrides_old, overrides_new: (overrides, decisions) by device.
    Raises:
        NotValid: a count below 0, or more of a kind than there are.

    >>> nothing = {"audit_old": {}, "audit_new": {}, "overrides_old": {}, "overrides_new": {}}
    >>> did_it_help(wins=30, losses=4, **nothing).word
    'helped'
    >>> did_it_help(wins=3, losses=1, **nothing).word
    'cannot tell'
    """
    if wins < 0 or losses < 0:
        raise NotValid(f"wins {wins} and losses {losses}: counts need to be at least 0", code="counts_invalid")
    same = _same_frames(wins, losses)
    audit = _audit(audit_old, audit_new)
    overrides = _overrides(overrides_old, overrides_new)
    deciding = same if same is not None and same.n >= APART_MIN else audit
    word = "cannot tell" if deciding is None else _word(deciding)
    return Helped(
        word=word, text=_text(word, same, audit, overrides), same_frames=same, audit=audit, overrides=overrides
    )


def _word(found: Metric) -> Word:
    if found.low is not None and found.low > 0:
        return "helped"
    if found.high is not None and found.high < 0:
        return "hurt"
    return "no difference seen"


def _same_frames(wins: int, losses: int) -> Metric | None:
    if wins + losses == 0:
        return None
    share = wilson(wins, wins + losses, LEVEL)
    assert share.value is not None
    assert share.low is not None
    assert share.high is not None
    low, high = 2 * share.low - 1, 2 * share.high - 1
    return Metric(value=2 * share.value - 1, low=low, high=high, n=wins + losses)


def _audit(old: Mapping[str, Counted], new: Mapping[str, Counted]) -> Metric | None:
    """Difference of accuracy over the sites that both have, each weighted by the new labels there.

    Source: one success and one failure more on either side, Agresti and Caffo, 2000; strata as independent.
    """
    both = [site for site in sorted(new) if old.get(site, (0, 0))[1] and new[site][1]]
    for side in (old, new):
        for site, (right, total) in side.items():
            if not 0 <= right <= total:
                raise NotValid(f"site {site} has {right} right of {total}; needs 0 to {total}", code="counts_invalid")
    labels_old, labels_new = (sum(side[site][1] for site in both) for side in (old, new))
    if labels_old < AUDIT_MIN or labels_new < AUDIT_MIN:
        return None
    value, middle, variance = 0.0, 0.0, 0.0
    for site in both:
        weight = new[site][1] / labels_new
        (right_old, total_old), (right_new, total_new) = old[site], new[site]
        value += weight * (right_new / total_new - right_old / total_old)
        for sign, right, total in ((1, right_new, total_new), (-1, right_old, total_old)):
            share = (right + 1) / (total + 2)
            middle += sign * weight * share
            variance += weight**2 * share * (1 - share) / (total + 2)
    reach = Z * math.sqrt(variance)
    return Metric(value=value, low=max(middle - reach, -1.0), high=min(middle + reach, 1.0), n=labels_new)


def _overrides(old: Mapping[str, Counted], new: Mapping[str, Counted]) -> Metric | None:
    """Mean over devices of the share not overridden, new minus old, with Student's interval: the unit is a device."""
    both = [device for device in sorted(new) if old.get(device, (0, 0))[1] and new[device][1]]
    if len(both) < DEVICES_MIN:
        return None
    changes = [old[device][0] / old[device][1] - new[device][0] / new[device][1] for device in both]
    reach = student_quantile(0.5 + LEVEL / 2, len(both) - 1) * stdev(changes) / math.sqrt(len(both))
    middle = fmean(changes)
    return Metric(value=middle, low=middle - reach, high=middle + reach, n=len(both))


def _text(word: Word, same: Metric | None, audit: Metric | None, overrides: Metric | None) -> str:
    parts: list[str] = []
    if same is not None:
        wins = round((1 + (same.value or 0)) / 2 * same.n)
        few = f", fewer than the {APART_MIN} that would decide" if same.n < APART_MIN else ""
        parts.append(f"of {same.n} labelled frames on which one alone was right it was the new one {wins} times{few}")
    if audit is not None:
        parts.append(f"audit samples: {_points(audit)} points of accuracy from {audit.n} labels, on other days")
    if overrides is not None:
        parts.append(f"decisions that nobody overrode: {_points(overrides)} points over {overrides.n} devices")
    if not parts:
        return f"{word}: no labelled frame that both decided, too few audit labels, too few devices with overrides"
    return f"{word}: {'; '.join(parts)}"


def _points(found: Metric) -> str:
    values: Sequence[float | None] = (found.value, found.low, found.high)
    value, low, high = (100 * (one or 0.0) for one in values)
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"
