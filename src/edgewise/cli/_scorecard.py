"""A scorecard as people read it, at most 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgewise.cli._rollout_words import columns, size, text


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The answer of GET /releases/{id}/scorecard, line by line."""
    card, verdict = found["scorecard"], found["verdict"]
    beside = {one["site"]: one for one in (found["champion"] or {}).get("sites", ())}
    judged = {one["site"]: one["result"] for one in verdict["sites"]}
    count, ms = len(card["predictions"]), card["latency_ms"]
    yield from text(
        f"{found['release']}: {verdict['result']} on {count} samples that no trainer saw; "
        f"{size(card['size_bytes'])}{'' if ms is None else f', {ms:.2g} ms where it was made'}"
    )
    yield ""
    rows = [["where", "n", "balanced accuracy", "macro recall", "champion", "gate"]]
    for one in (*card["sites"], card["overall"]):
        theirs = (found["champion"] or {}).get("overall") if one is card["overall"] else beside.get(one["site"])
        known = None if theirs is None else theirs["balanced_accuracy"]["value"] or theirs["macro_recall"]["value"]
        row = [one["site"], str(one["n"]), _metric(one["balanced_accuracy"]), _metric(one["macro_recall"])]
        rows.append([*row, "–" if known is None else f"{known:.3f}", judged.get(one["site"], "–")])
    yield from columns(rows)
    yield ""
    yield from _calibrated(card["overall"].get("calibration"))
    for title, gap in (("sites", card.get("gap_sites")), ("slices", card.get("gap_slices"))):
        if gap is not None:
            yield from text(
                f"Largest difference between {title}: {gap['best']} over {gap['worst']} by {gap['value']:.3f} "
                f"({gap['low']:.3f} to {gap['high']:.3f})."
            )
    recalls = ", ".join(f"{label} {_metric(one)}" for label, one in sorted(card["overall"]["recall"].items()))
    yield from text(f"Recall: {recalls}.")


def _metric(one: Mapping[str, Any]) -> str:
    if one["value"] is None:
        return "–"
    if one["low"] is None:
        return f"{one['value']:.3f}"
    return f"{one['value']:.3f} ({one['low']:.2f}–{one['high']:.2f})"


def _calibrated(found: Mapping[str, Any] | None) -> Iterator[str]:
    if found is None:
        yield from text("Calibration: too few decisions to say.")
        return
    word = "as it says" if found["p"] > 0.05 else "not as it says"
    ece = found["ece"]
    yield from text(
        f"Confidence is {word}: its error is {ece['value']:.3f}, {found['expected']:.3f} is usual for a calibrated one "
        f"on {ece['n']} decisions (p {found['p']:.2f}); Brier {found['brier']:.3f}."
    )
