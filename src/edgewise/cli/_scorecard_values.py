"""The scorecard of a bundle that states values, at most 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgewise.cli._rollout_words import columns, text


def value_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Error, skill and coverage by place, beside the champion's error on the same samples."""
    card, champion = found["scorecard"], found["champion"]
    beside = {} if champion is None else {one["site"]: one for one in (*champion["sites"], champion["overall"])}
    judged = {one["site"]: one["result"] for one in found["verdict"]["sites"]}
    judged[card["overall"]["site"]] = found["verdict"]["result"]
    rows = [["where", "n", "error", "champion", "skill", "coverage", "gate"]]
    for one in (*card["sites"], card["overall"]):
        ours, theirs = one.get("values"), (beside.get(one["site"]) or {}).get("values")
        known = [_shown(ours, name) for name in ("mae", "skill", "coverage")]
        result = judged.get(one["site"], "–")
        rows.append([one["site"][:24], str(one["n"]), known[0], _shown(theirs, "mae"), *known[1:], result])
    yield from columns(rows)
    yield ""
    whole = card["overall"].get("values")
    if whole is not None:
        yield from text(
            f"Error is the mean absolute error, skill 1 less its share of the baseline's error; {whole['nominal']:.0%} "
            f"of true values are stated to lie inside. {whole['unstated']} samples got no value."
        )


def _shown(score: Mapping[str, Any] | None, name: str) -> str:
    """
    >>> _shown({"mae": {"value": 0.0}}, "mae"), _shown(None, "mae"), _shown({"skill": {"value": None}}, "skill")
    ('0', '–', '–')
    """
    value = None if score is None else score[name]["value"]
    return "–" if value is None else f"{value:.3g}"
