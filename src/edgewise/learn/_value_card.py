"""The model card of a bundle that states values."""

from __future__ import annotations

from collections.abc import Sequence

from edgewise.learn._dataset import TrainingSample
from edgewise.learn._trainer import Fitted

NAMES_MAX = 5


def card_of(name: str, samples: Sequence[TrainingSample], fitted: Fitted) -> str:
    """A short model card in Markdown: what is stated, on what it was trained, and what it does not promise."""
    states = fitted.states
    assert states is not None, "only of the task value"
    unit = f" {states.unit}" if states.unit else ""
    ahead = "" if states.horizon_s is None else f", {states.horizon_s / 3600:g} hours ahead"
    groups = len({(one.site, one.group) for one in samples})
    lines = [
        f"# {name}",
        "",
        f"States {states.target}{unit and f' in{unit}'}{ahead}, with an interval that holds {states.coverage:.0%} of",
        f"the true values. Trained on {len(samples)} samples of {groups} groups, of which {states.calibrated_on}",
        f"calibrate the interval: its ends were moved outwards by {states.correction:.4g}{unit}. The mean was",
        f"{states.mean:.4g}{unit}, and an interval without knowledge {states.spread:.4g}{unit} wide.",
        "",
        "The interval keeps its promise for groups like those of the training. After a change that they do not show it",
        "may be wrong more often: watch the coverage in the scorecard.",
    ]
    if fitted.unreadable:
        lines += ["", f"Left out, not readable: {', '.join(fitted.unreadable[:NAMES_MAX])}."]
    return "\n".join(lines)
