"""A scorecard as people read it, at most 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgewise.cli._rollout_words import columns, size, text
from edgewise.cli._scorecard_values import value_lines

PLACE_MAX = 24  # characters of a site's or slice's name in a table
LABEL_MAX = 17


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The answer of GET /releases/{id}/scorecard, line by line."""
    card, verdict = found["scorecard"], found["verdict"]
    count, ms = len(card["predictions"]), card["latency_ms"]
    yield from text(
        f"{found['release']}: {verdict['result']} on {count} samples that no trainer saw; "
        f"{size(card['size_bytes'])}{'' if ms is None else f', {ms:.2g} ms where it was made'}"
    )
    yield ""
    if found["metric"] == "mae":
        yield from value_lines(found)
        return
    places = _places(found)
    yield from columns(places)
    if any(row[2].endswith("*") for row in places):
        yield from text("* macro recall, where there are not both good and defective samples")
    yield ""
    yield from _recalls(found)
    yield from _boxes(card)
    yield from _calibrated(card["overall"].get("calibration"))
    for title, gap in (("sites", card.get("gap_sites")), ("slices", card.get("gap_slices"))):
        if gap is not None:
            yield from text(
                f"Largest difference between {title}: {gap['best']} over {gap['worst']} by {gap['value']:.3f} "
                f"({gap['low']:.3f} to {gap['high']:.3f})."
            )
    yield from _compared(card.get("compared"), found.get("champion_release"))
    cards = {"as trained": card} | {name: one["scorecard"] for name, one in found.get("variants", {}).items()}
    yield from _variants(found, cards)
    yield from _robust(cards)


def metric_of(score: Mapping[str, Any], metric: str) -> tuple[str, Mapping[str, Any]]:
    """The name and value of the measure that the gate judges here: macro recall where the declared one has no value.

    >>> none, zero = {"value": None}, {"value": 0.0}
    >>> metric_of({"balanced_accuracy": zero, "macro_recall": {"value": 0.5}}, "balanced_accuracy")
    ('balanced accuracy', {'value': 0.0})
    >>> metric_of({"balanced_accuracy": none, "macro_recall": {"value": 0.5}}, "balanced_accuracy")
    ('macro recall', {'value': 0.5})
    """
    name = metric if score[metric]["value"] is not None else "macro_recall"
    return name.replace("_", " "), score[name]


def _places(found: Mapping[str, Any]) -> list[list[str]]:
    card, champion = found["scorecard"], found["champion"]
    beside = {} if champion is None else {one["site"]: one for one in (*champion["sites"], champion["overall"])}
    judged = {one["site"]: one["result"] for one in found["verdict"]["sites"]}
    judged[card["overall"]["site"]] = found["verdict"]["result"]
    declared = found["metric"].replace("_", " ")
    rows = [["where", "n", declared, "champion", "gate"]]
    for one in (*card["sites"], card["overall"]):
        (name, ours), theirs = metric_of(one, found["metric"]), beside.get(one["site"])
        known = None if theirs is None else metric_of(theirs, found["metric"])[1]["value"]
        shown = "–" if known is None else f"{known:.3f}"
        result = judged.get(one["site"], "–")
        mark = "" if name == declared else " *"
        rows.append([_cut(one["site"], PLACE_MAX), str(one["n"]), _metric(ours) + mark, shown, result])
    return rows


def _recalls(found: Mapping[str, Any]) -> Iterator[str]:
    """Recall by class over all, and at each place of good parts and of the classes that matter."""
    card, matter = found["scorecard"], found["labels_that_matter"]
    recall = card["overall"]["recall"]
    yield from text(f"Recall: {', '.join(f'{label} {_metric(one)}' for label, one in sorted(recall.items()))}.")
    missing = [label for label in matter if label not in recall]
    if missing:
        yield from text(f"No evaluation sample of {', '.join(missing)}, which matters: nothing is known of it.")
    for one in card["sites"]:
        told = [f"good {_metric(one['good_recall'])}"] if one.get("good_recall") else []
        told += [f"{label} {_metric(one['recall'][label])}" for label in matter if label in one["recall"]]
        if told:
            yield from text(f"  {one['site']}: {', '.join(told)}", indent="    ")


def _boxes(card: Mapping[str, Any]) -> Iterator[str]:
    """How good found boxes are at each place, and by label over all."""
    overall = card["overall"]
    if not overall.get("boxes"):
        return
    yield ""
    yield from text("Found boxes against true ones, right from half of their union on; centre recall asks less.")
    named = [(one["site"], one["boxes"]) for one in card["sites"] if one.get("boxes")]
    named += [(overall["site"], overall["boxes"]), *(overall.get("boxes_of") or {}).items()]
    rows = [["where", "true", "found", "recall", "precision", "average", "centre"]]
    for name, one in named:
        shares = [one[measure]["value"] for measure in ("recall", "precision", "average_precision", "centre_recall")]
        rows.append(
            [
                _cut(name, PLACE_MAX),
                str(one["n"]),
                str(one["found"]),
                *("–" if value is None else f"{value:.3f}" for value in shares),
            ]
        )
    yield from columns(rows)
    recall = overall["boxes"]["recall"]
    yield from text(f"Recall of boxes over all {_metric(recall)}.")
    yield ""


def _compared(rows: Sequence[Mapping[str, Any]] | None, champion: str | None) -> Iterator[str]:
    yield ""
    if not rows:
        yield from text("There was no champion to compare with: the first release is judged by the floor.")
        return
    yield from text(
        f"Beside {champion or 'the champion'} on the same samples: champion → candidate, the difference with its 90 % "
        "interval, samples that only the candidate (+) or only the champion (-) gets right, and p of the exact "
        "McNemar test by groups. No p is corrected for how many there are."
    )
    place = None
    for row in rows:
        if row["site"] != place:
            place = row["site"]
            yield place
        yield from _pair(row)


def _pair(row: Mapping[str, Any]) -> Iterator[str]:
    name = _cut(measure_name(row), LABEL_MAX)
    if row["candidate"] is None:
        yield f" {name:<{LABEL_MAX}} {row['few']}"
        return
    difference = row["difference"]
    between = "no interval" if difference["low"] is None else f"{difference['low']:+.3f} to {difference['high']:+.3f}"
    p = "<0.001" if row["p"] < 0.001 else f"{row['p']:.2g}"
    yield (
        f" {name:<{LABEL_MAX}} {row['champion']:.3f} → {row['candidate']:.3f} {difference['value']:+.3f} "
        f"({between:<16}) +{row['gained']} -{row['lost']} p {p}"
    )
    if row["few"]:
        yield from text(f"   few: {row['few']}", indent="   ")


def measure_name(row: Mapping[str, Any]) -> str:
    """What a row of the comparison is about.

    >>> measure_name({"measure": "macro_recall", "label": None}), measure_name({"measure": "recall", "label": "crack"})
    ('macro recall', 'recall of crack')
    """
    if row["measure"] == "recall":
        return f"recall of {row['label']}"
    return "recall of good" if row["measure"] == "good_recall" else str(row["measure"]).replace("_", " ")


def _variants(found: Mapping[str, Any], cards: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if len(cards) < 2:
        return
    yield ""
    rows = [["variant", "size", "ms", found["metric"].replace("_", " "), "gate", "in the release"]]
    for name, card in cards.items():
        told = found["variants"].get(name)
        ms = card["latency_ms"]
        result = found["verdict"]["result"] if told is None else told["verdict"]["result"]
        inside = "yes" if told is None or told["in_release"] else "no"
        value = _metric(metric_of(card["overall"], found["metric"])[1])
        rows.append([name, size(card["size_bytes"]), "–" if ms is None else f"{ms:.2g}", value, result, inside])
    yield from columns(rows)


def _robust(cards: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What each variant loses on worse pictures, and how far it is behind the network as it was trained."""
    told = {name: card["robustness"] for name, card in cards.items() if card.get("robustness")}
    if not told:
        return
    first = next(iter(told.values()))
    unreadable = f"; {first['unreadable']} of them could not be read" if first["unreadable"] else ""
    yield ""
    yield from text(
        f"Robustness, as the worker told, on {first['samples']} pictures {_seen(first)}{unreadable}: "
        "macro recall, and what is lost on the same pictures as a worse camera would have taken them. "
        "No verdict and no signature rests on it."
    )
    by_harm = {name: {one["harm"]: one for one in each["harms"]} for name, each in told.items()}
    rows = [["harm", *(f"{name}, lost" for name in told)]]
    for one in first["harms"]:
        cells = [_lost(each.get(one["harm"]), whole=not place) for place, each in enumerate(by_harm.values())]
        rows.append([one["harm"], *cells])
    yield from columns(rows)


def _seen(told: Mapping[str, Any]) -> str:
    if told.get("trained_on"):
        return "that it was trained on, which flatters"
    return "that no weight was learned from"


def _lost(one: Mapping[str, Any] | None, *, whole: bool) -> str:
    """Macro recall and what is lost of it; `whole` with the interval of the loss, for which not all have the room."""
    if one is None or one["macro_recall"]["value"] is None:
        return "–"
    shown, loss = f"{one['macro_recall']['value']:.3f}", one.get("loss")
    if not loss or loss["value"] is None:
        return shown
    if loss["low"] is None or not whole:
        return f"{shown} {loss['value']:.2f}"
    return f"{shown} {loss['value']:.2f} ({loss['low']:.2f} to {loss['high']:.2f})"


def _cut(name: str, most: int) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


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
