"""The loop as a picture: eight steps around a ring, each with its number and where that comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from edgewise.hub.console.words import count, share, size

WIDTH, HEIGHT, GAP_X, GAP_Y, EDGE = 210, 96, 44, 48, 4
ACROSS = ((0, 0), (1, 0), (2, 0), (3, 0), (3, 1), (2, 1), (1, 1), (0, 1))
ALONG = ((0, 0), (1, 0), (1, 1), (1, 2), (1, 3), (0, 3), (0, 2), (0, 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One step: a large word, a line below it, and the page of what it was counted from; `edge` at the devices."""

    title: str
    word: str
    text: str
    link: str
    edge: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """Where boxes and arrows are, in units of the drawing: x, y of each box; x1, y1, x2, y2 of each arrow."""

    name: str
    width: int
    height: int
    boxes: tuple[tuple[int, int], ...]
    arrows: tuple[tuple[int, int, int, int], ...]


def picture(name: str, cells: Sequence[tuple[int, int]]) -> Picture:
    """A ring through these cells, given as (column, row).

    >>> picture("square", ((0, 0), (1, 0), (1, 1), (0, 1))).arrows[0]
    (214, 52, 258, 52)
    """
    boxes = tuple((EDGE + column * (WIDTH + GAP_X), EDGE + row * (HEIGHT + GAP_Y)) for column, row in cells)
    pairs = zip(boxes, (*boxes[1:], boxes[0]), strict=True)
    columns, rows = 1 + max(column for column, _ in cells), 1 + max(row for _, row in cells)
    return Picture(
        name=name,
        width=columns * WIDTH + (columns - 1) * GAP_X + 2 * EDGE,
        height=rows * HEIGHT + (rows - 1) * GAP_Y + 2 * EDGE,
        boxes=boxes,
        arrows=tuple(_arrow(one, other) for one, other in pairs),
    )


def _arrow(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int, int, int]:
    (x1, y1), (x2, y2) = one, other
    if y1 == y2:
        middle = y1 + HEIGHT // 2
        return (x1 + WIDTH, middle, x2, middle) if x2 > x1 else (x1, middle, x2 + WIDTH, middle)
    middle = x1 + WIDTH // 2
    return (middle, y1 + HEIGHT, middle, y2) if y2 > y1 else (middle, y1, middle, y2 + HEIGHT)


PICTURES = (picture("across", ACROSS), picture("along", ALONG))


def steps(use_case: str, counts: Mapping[str, Any], *, devices: int, champion: str | None, rollout: Any) -> list[Step]:
    """The eight steps of a use case by the numbers of the overview.

    Args:
        rollout: the newest one, None before the first.
    """
    query = f"?use_case={quote(use_case, safe='')}"
    order, verdict = counts["order"], counts["verdict"]
    waits = f"{count(counts['waiting'])} wait" if counts["waiting"] else "none waits"
    sent = f"{share(counts['share_sent'])} of {size(counts['bytes_decided'])}" if counts["bytes_decided"] else "sent"
    answered = order.bundle if order is not None else None
    return [
        Step(
            title="Decide",
            word=count(counts["decisions"]),
            text=f"on {count(devices)} devices",
            link=f"/devices{query}",
            edge=True,
        ),
        Step(title="Keep and send", word=size(counts["bytes_sent"]), text=sent, link=f"/data{query}", edge=True),
        Step(title="Label", word=count(counts["labelled"]), text=waits, link=f"/labels{query}"),
        Step(
            title="Order",
            word=f"{count(counts['new_labels'])} / {count(counts['labels_min'])}",
            text="labels towards the next",
            link=f"/orders{query}",
        ),
        Step(
            title="Train",
            word=order.state if order else "–",
            text=f"{order.kind} order" if order else "no order yet",
            link=f"/orders/{order.id}" if order else f"/orders{query}",
        ),
        Step(
            title="Gate",
            word=verdict.result if verdict else "–",
            text="the newest candidate" if verdict else "no candidate yet",
            link=f"/orders/{order.id}#gate-title" if answered else f"/orders{query}",
        ),
        Step(
            title="Sign",
            word=champion or "–",
            text=f"{counts['requests']} wait for the signer",
            link=f"/releases/{quote(champion, safe='')}" if champion else f"/releases{query}",
        ),
        Step(
            title="Roll out",
            word=rollout.state if rollout else "–",
            text=rollout.release if rollout else "nothing yet",
            link=f"/rollouts/{rollout.id}" if rollout else f"/rollouts{query}",
            edge=True,
        ),
    ]
