"""The factory's page on the console: a pure function from the hub's numbers to blocks that one generic page draws."""

from __future__ import annotations

from collections.abc import Sequence

from edgewise.hub.app_page import Block, SiteNumbers


def blocks(plants: Sequence[SiteNumbers], good_labels: Sequence[str]) -> tuple[Block, ...]:
    """The page: totals, one row a plant, and the defects that were found.

    >>> north = SiteNumbers(site="north", decisions={"none": 90, "crack": 10}, total=100, alarms=9, labelled=4, wrong=1,
    ...                     release="surface-inspection@3")
    >>> [block.title for block in blocks([north], good_labels=["none"])]
    ['Parts decided on', 'Plants', 'Defects found']
    >>> blocks([north], good_labels=["none"])[1].rows
    (('north', 'surface-inspection@3', '100', '9.0 %', '1 of 4'),)
    """
    return (
        Block(kind="number", title="Parts decided on", rows=((str(sum(one.total for one in plants)),),)),
        Block(
            kind="table",
            title="Plants",
            columns=("plant", "release", "decisions", "taken out", "wrong of those labelled"),
            rows=tuple(_plant_row(one) for one in plants),
        ),
        Block(
            kind="table",
            title="Defects found",
            columns=("plant", "defect", "parts"),
            rows=_defects(plants, good_labels),
        ),
    )


def _plant_row(one: SiteNumbers) -> tuple[str, ...]:
    total = one.total
    share = f"{100 * one.alarms / total:.1f} %" if total and one.alarms is not None else "–"
    return (one.site, one.release or "–", str(total), share, f"{one.wrong} of {one.labelled}")


def _defects(plants: Sequence[SiteNumbers], good_labels: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """(plant, defect, parts), most frequent first within a plant."""
    return tuple(
        (one.site, label, str(count))
        for one in plants
        for label, count in sorted(one.decisions.items(), key=lambda item: (-item[1], item[0]))
        if label not in good_labels and count
    )
