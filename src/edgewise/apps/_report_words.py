"""Sentences of the report that are worked out from its numbers: the drill's story, and what did not go well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Values = Mapping[str, Any]
FORGETTING_MAX = 0.02  # a measure that falls by more than this from its start is named
WIDE = 0.2  # an interval wider than this says little


def revert_steps(bad: Values, devices: str) -> list[str]:
    """The story of the bad candidate, step by step, as far as the report knows it.

    >>> bad = {"stopped_by_gate": True, "gate_reasons": (), "signer_refused": None, "signer_refusal": None,
    ...        "override_reason": None, "signed_by": None, "release": None, "reverted": False, "devices_exposed": 1,
    ...        "decisions_until_revert": None, "labels_until_revert": None, "returned_to": None, "reason": None}
    >>> revert_steps(bad, "4")[0]
    'The gate stopped the candidate.'
    """
    steps = [_gate_step(bad)]
    if bad["signer_refused"] is not None:
        said = f": {_sentence(bad['signer_refusal'])}" if bad["signer_refusal"] else "."
        steps.append(
            f"Pushed again by an operator, the automatic signer refused it{said}"
            if bad["signer_refused"]
            else "Pushed again by an operator, the automatic signer signed it, which it must not do."
        )
    if bad["override_reason"]:
        who = bad["signed_by"] or "A person with the release key"
        steps.append(
            f"{who} signed it all the same; the reason is in the audit log: {_sentence(bad['override_reason'])}"
        )
    names = f" ({', '.join(bad['devices'])})" if bad.get("devices") else ""
    release = bad["release"] or "The candidate"
    steps.append(f"{release} reached {bad['devices_exposed']} of {devices} devices{names}.")
    steps.append(_end_step(bad))
    if bad["reason"]:
        steps.append(f"The hub's own words: {_sentence(bad['reason'])}")
    return steps


def _gate_step(bad: Values) -> str:
    reasons = "; ".join(bad["gate_reasons"])
    why = f": {_sentence(reasons)}" if reasons else "."
    return f"The gate stopped the candidate{why}" if bad["stopped_by_gate"] else f"The gate let the candidate pass{why}"


def _end_step(bad: Values) -> str:
    if not bad["reverted"]:
        return "It was not reverted by itself."
    wins, losses = bad.get("wins"), bad.get("losses")
    pairs = f", of which the new bundle lost {losses} and won {wins}" if wins is not None and losses is not None else ""
    took = (
        f", {bad['seconds_until_revert']:.1f} s after it began to run"
        if bad.get("seconds_until_revert") is not None
        else ""
    )
    evidence = f" The e-value stood at {bad['e_value']:.4g}." if bad.get("e_value") is not None else ""
    return (
        f"After {bad['decisions_until_revert']} decisions made by both bundles and {bad['labels_until_revert']} labels"
        f"{pairs}, the hub ordered the revert by itself{took}; every device returned to {bad['returned_to']}.{evidence}"
    )


def what_went_badly(report: Values) -> list[str]:
    """Sentences about everything that a reader should hold against the run; limits of the run at the end."""
    found = [*_quality_troubles(report), *_run_troubles(report)]
    if not found:
        found = [
            "No measure fell from its start, none ended below random upload, no interval is wide, no candidate was "
            "held by the gate, and no record was lost: these checks found nothing."
        ]
    return [*found, *report["notes"]]


def _quality_troubles(report: Values) -> Iterator[str]:
    last = report["rounds"][-1]["quality"]
    start = report["start"]["quality"] if report["start"] else {}
    for name, one in last.items():
        title = (report["measures"].get(name) or {"title": name})["title"]
        value, before = one["value"], start.get(name, {}).get("value")
        if value is None:
            yield f"{title}: not measured in the last round."
            continue
        if before is not None and value < before - FORGETTING_MAX:
            yield f"{title}: fell from {before:.3f} to {value:.3f}, which is forgetting."
        if one["random"] is not None and value < one["random"]:
            yield f"{title}: random upload ended higher, {one['random']:.3f} against {value:.3f}."
        if one["low"] is not None and one["high"] is not None and one["high"] - one["low"] > WIDE:
            seen = f"{one['low']:.2f} to {one['high']:.2f}"
            yield f"{title}: the interval is wide, {seen}; a small difference says nothing."


def _run_troubles(report: Values) -> Iterator[str]:
    for index, one in enumerate(report["rounds"], start=1):
        if one["gate"] not in (None, "passed"):
            why = "; ".join(one["gate_reasons"]) or "no reason was given"
            yield f"Round {one['number'] or index}: the gate said {one['gate']}, the champion stayed ({why})."
    offline, bad = report["offline"], report["bad_candidate"]
    if offline["records_lost"] or offline["records_duplicated"]:
        lost, twice = offline["records_lost"], offline["records_duplicated"]
        yield f"{offline['device']}: {lost} records lost, {twice} stored twice."
    if not report["power_cut"]["bundle_whole"]:
        yield "After the power cut the device did not run a whole bundle."
    if not bad["stopped_by_gate"]:
        yield "The gate let the deliberately bad candidate pass."
    if not bad["reverted"]:
        yield "The bad candidate was not reverted by itself."


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
