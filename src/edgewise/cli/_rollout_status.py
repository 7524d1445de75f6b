"""A rollout as people read it: why it waits, what comes next, what it asks. At most 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import typer

from edgewise.cli._rollout_words import clock, columns, text

DEVICES_MAX = 12  # shown one by one
OVER = {"reverted", "superseded", "aborted"}
QUIET = {"waiting", "committed"}  # what is true of most devices, and needs no line


def print_one(seen: Mapping[str, Any]) -> None:
    """Print one rollout; `seen` is the answer of GET /rollouts/{id}."""
    typer.echo("\n".join(lines(seen)))


def print_all(rollouts: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for each rollout, newest first."""
    if not rollouts:
        typer.echo("none")
        return
    rows = [["id", "release", "state", "wave", "why"]]
    for seen in rollouts:
        state = f"{seen['state']}, asks" if seen["asks"] else seen["state"]
        rows.append([seen["id"], seen["release"], state, f"{seen['wave']}/{seen['waves_total']}", seen["reason"]])
    typer.echo("\n".join(columns(rows)))


def print_failures(page: Mapping[str, Any]) -> None:
    """Print failures of updates; `page` is the answer of GET /failures."""
    if not page["failures"]:
        typer.echo("none")
    for item in page["failures"]:
        kind = f"{item['category']}: {item['code']}" if item["category"] else item["code"]
        head = f"{clock(item['at'])}  {item['device']} ({item['site']})  {item['phase']}, {item['component']}, {kind}"
        typer.echo("\n".join([*text(head), *text(f"  {item['text']}", indent="  ")]))
    if page["next"]:
        typer.echo("there are more; ask for them with --limit")


def lines(seen: Mapping[str, Any]) -> Iterator[str]:
    """The rollout, line by line."""
    yield from text(f"Rollout {seen['id']}: {seen['release']} is {seen['state']}.")
    if seen["reason"]:
        yield from text(f"Why: {seen['reason']}")
    for sentence in _waits(seen):
        yield from text(f"It waits: {sentence}")
    yield from text(f"Next: {_next(seen)}")
    for command in _asks(seen):
        yield f"  {command}"
    stages = [*([seen["shadow"]] if seen["shadow"] else []), *seen["waves"]]
    if stages:
        yield ""
        yield from columns([["stage", "state", "devices", "committed", "opened", "passed"], *map(_stage, stages)])
    yield ""
    yield from _evidence(seen)
    yield from _devices(stages)


def _waits(seen: Mapping[str, Any]) -> list[str]:
    if seen["state"] not in ("running", "paused"):
        return []
    stages = [*([seen["shadow"]] if seen["shadow"] else []), *seen["waves"]]
    return [sentence for stage in stages if stage["passed_at"] is None for sentence in stage["waits_for"]]


def _next(seen: Mapping[str, Any]) -> str:
    state, back = seen["state"], seen["previous"] or "nothing"
    if state == "waiting":
        return f"somebody else than {seen['who']} approves or denies it; no device is touched before."
    if state == "paused":
        return (
            "a person answers." if seen["asks"] else "nothing, until a person resumes it; it is watched all the same."
        )
    if state == "reverting":
        return f"every device that has it goes back to {back} at its next contact."
    if state == "finished":
        return "nothing; devices that come later get it, too."
    if state in OVER:
        back = seen["returned_to"] or "what they run"
        return f"nothing; it is over, and its devices are at {back}." if state == "reverted" else "nothing; it is over."
    return _next_stage(seen)


def _next_stage(seen: Mapping[str, Any]) -> str:
    starts_at, number, total = seen["policy"]["starts_at"], seen["wave"], seen["waves_total"]
    if not seen["waves"] and not seen["shadow"] and starts_at:
        return f"it begins at {clock(starts_at)} UTC."
    shadow = seen["shadow"]
    if shadow and shadow["passed_at"] is None:
        return "wave 1 opens when the shadow stage lets it; until then nobody is exposed."
    if seen["waves"] and seen["waves"][-1]["passed_at"] is None:
        after = f"wave {number + 1} of {total} opens" if number < total else "the rollout finishes"
        return f"{after} when wave {number} of {total} has passed."
    if not seen["waves"] and not shadow and seen["policy"]["shadow"] and seen["previous"]:
        return "the shadow stage opens as soon as devices can take part."
    return f"wave {number + 1} of {total} opens as soon as devices can take part."


def _asks(seen: Mapping[str, Any]) -> list[str]:
    """The commands with which a person answers."""
    which = seen["id"]
    if seen["state"] == "waiting":
        return [f"edgewise rollout approve {which}", f"edgewise rollout deny {which} --reason TEXT"]
    if seen["state"] != "paused":
        return []
    verbs = ["approve", "resume"] if seen["asks"] else ["resume"]
    last = "revert" if seen["previous"] else "abort"
    return [*(f"edgewise rollout {verb} {which}" for verb in verbs), f"edgewise rollout {last} {which} --reason TEXT"]


def _stage(stage: Mapping[str, Any]) -> list[str]:
    committed = sum(device["state"] == "committed" for device in stage["devices"])
    passed = clock(stage["passed_at"], short=True) if stage["passed_at"] else "–"
    return [
        f"wave {stage['wave']}" if stage["wave"] else "shadow",
        stage["state"],
        str(len(stage["devices"])),
        str(committed) if stage["wave"] else "–",
        clock(stage["opened_at"]),
        f"{passed} by hand" if stage["by_hand"] else passed,
    ]


def _evidence(seen: Mapping[str, Any]) -> Iterator[str]:
    yield from text(
        f"Evidence: {seen['paired']} paired decisions, {seen['disagreed']} differ; {seen['labels']} labelled pairs: "
        f"{seen['wins']} wins, {seen['losses']} losses, {seen['ties']} ties; e-value {seen['e_value']:.3g}, "
        f"taken back at {seen['e_bound']:.3g}."
    )
    for name, title in (("shadow_word", "Shadow"), ("backstop_word", "Without labels")):
        if seen[name]:
            yield from text(f"{title}: {seen[name]['word']}; {seen[name]['text']}")
    if seen["failures"]:
        counts = ", ".join(f"{code} {count}" for code, count in seen["failures"].items())
        yield from text(f"Failed devices by code: {counts}; see edgewise rollout failures --rollout {seen['id']}")
    for name, title in (("conflicts", "In conflict, left alone"), ("pinned", "Pinned, left alone")):
        for device, why in list(seen[name].items())[:DEVICES_MAX]:
            yield from text(f"{title}: {device}: {why}")
    if seen["stranded"]:
        yield from text(f"Only a new release can help: {', '.join(seen['stranded'][:DEVICES_MAX])}")


def _devices(stages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Devices of open stages that are on their way or stand out."""
    found = [
        [device["device"], device["site"], device["state"], device["text"]]
        for stage in stages
        for device in stage["devices"]
        if stage["passed_at"] is None and (device["state"] not in QUIET or device["text"])
    ]
    if not found:
        return
    yield ""
    yield from columns([["device", "site", "state", "why"], *found[:DEVICES_MAX]])
    if len(found) > DEVICES_MAX:
        yield f"and {len(found) - DEVICES_MAX} more; -o json has all"
