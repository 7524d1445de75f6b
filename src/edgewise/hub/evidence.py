"""What speaks for and against a rollout's release: paired labels, agreement in shadow, and counts by device.

Pairs of the shadow stage, of bake and of all waves are one series, in the order of their labels. A pair that was kept,
or labelled sooner, because of an operator's word is never in it: an operator overrides what acted, so in shadow such
labels would reveal only the champion's errors, and live only the candidate's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from edgewise.frames import Decided, differ
from edgewise.hub.rollout import Device, Evidence, Finding, Rollout
from edgewise.hub.store import intake, samples
from edgewise.hub.store import rollouts as rows
from edgewise.hub.store.intake import ProxyCounts
from edgewise.measure import Counts, Pair, count_apart_ties, count_pairs, judge_backstop, judge_shadow
from edgewise.wire import Decision, Proxy, UseCase, canonical, value_of

HISTORY_MAX = 1000  # points of a rollout's evidence; over it every second one is dropped
LOOKS_KEPT_MAX = 500


def with_counts(
    connection: sa.Connection, rollout: Rollout, usecase: UseCase, data: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """What is remembered of a rollout with its counts brought up to date; equal to `data` where nothing is new."""
    counted = intake.paired_of(connection, rollout.id)
    pairs = [pair_of(row, rollout, usecase) for row in samples.pairs(connection, rollout.id)]
    wins, losses, ties = count_pairs(pairs)
    made = max(sum(pair for pair, _ in counted.values()), rows.pairs_received(connection, rollout.id))
    fresh = {
        # Telemetry may be behind the samples that a device sends first; a pair that we hold was made.
        "paired": made,
        "disagreed": sum(apart for _, apart in counted.values()),
        "labels": len(pairs),
        "wins": wins,
        "losses": losses,
        "ties": ties,
        "e_value": Evidence(wins=wins, losses=losses).e_value,
        **_shadow(rollout, counted, wins, losses, count_apart_ties(pairs), data),
        **({"backstop": data["looks"][-1]} if data.get("looks") else {}),
    }
    result = {**data, "paired_by_device": {name: pair for name, (pair, _) in sorted(counted.items())}}
    if fresh != data.get("evidence"):
        result["evidence"] = fresh
        result["history"] = _thinned([*data.get("history", []), [now.isoformat(), made, len(pairs), fresh["e_value"]]])
    return result


def _shadow(
    rollout: Rollout,
    counted: Mapping[str, tuple[int, int]],
    wins: int,
    losses: int,
    ties: int,
    data: Mapping[str, Any],
) -> dict[str, Any]:
    """The verdict of the shadow stage while it is open; afterwards the one on which it was decided."""
    stage, policy = rollout.shadow, rollout.policy
    if stage is None or policy.shadow is None:
        return {}
    if stage.passed_at is not None:
        kept = data.get("evidence", {}).get("shadow")
        return {} if kept is None else {"shadow": kept}
    inside = (*stage.devices, *stage.joined)
    verdict = judge_shadow(
        policy.shadow,
        [counted[name] for name in inside if name in counted],
        wins=wins,
        losses=losses,
        ties=ties,
        revert_alpha=policy.revert_alpha,
    )
    return {"shadow": asdict(verdict)}


def evidence_of(data: Mapping[str, Any]) -> Evidence:
    """The counts that the controller stored last, and what `measure` said of them."""
    stored = data.get("evidence", {})
    shadow, backstop = stored.get("shadow"), stored.get("backstop")
    return Evidence(
        labels=stored.get("labels", 0),
        wins=stored.get("wins", 0),
        losses=stored.get("losses", 0),
        shadow=None if shadow is None else Finding(word=shadow["word"], text=shadow["text"]),
        backstop=None
        if backstop is None
        else Finding(word="reject" if backstop["revert"] else "hold", text=backstop["text"]),
    )


def evidence_bytes(rollout: Rollout, data: Mapping[str, Any], reason: str) -> bytes:
    """The document whose digest a decision names: why, on which counts, against which bounds."""
    backstop = rollout.policy.backstop
    return canonical(
        {
            "rollout": rollout.id,
            "release": rollout.target.release,
            "returned_to": rollout.previous.release if rollout.previous else rollout.target.release,
            "reason": reason,
            "bound": 1 / rollout.policy.revert_alpha,
            **({} if backstop is None else {"backstop_alpha": backstop.alpha}),
            **data.get("evidence", {}),
        }
    )


# -- pairs -------------------------------------------------------------------------------------------------------------


def pair_of(row: samples.SampleRow, rollout: Rollout, usecase: UseCase) -> Pair:
    """A labelled sample on which both bundles spoke, as the statistics see it."""
    decision, shadow = row.decision or {}, row.shadow or {}
    # The bundle tells whose word it is; which of the two acted on the device does not. A device of another variant
    # runs another bundle of the same release.
    acted = decision.get("release") == rollout.target.release or decision.get("bundle") == rollout.target.bundle
    ours, theirs = (decision, shadow) if acted else (shadow, decision)
    truth, group = row.label or "", "" if row.group == row.id else f"{row.site}/{row.group}"
    if usecase.outcome.target is not None and ours.get("stated") and theirs.get("stated"):
        return _nearer(
            group, Decided.of(Decision.model_validate(ours)), Decided.of(Decision.model_validate(theirs)), truth
        )
    return Pair(
        group=group,
        candidate_right=right(ours.get("label"), truth, usecase),
        champion_right=right(theirs.get("label"), truth, usecase),
        apart=ours.get("label") != theirs.get("label"),
    )


def _nearer(group: str, ours: Decided, theirs: Decided, truth: str) -> Pair:
    """Of two stated values the nearer one is right; both are, where they are as near."""
    assert ours.stated is not None
    assert theirs.stated is not None
    value = value_of(truth)
    mine, other = abs(ours.stated[1] - value), abs(theirs.stated[1] - value)
    return Pair(group=group, candidate_right=mine <= other, champion_right=other <= mine, apart=differ(ours, theirs))


def right(label: str | None, truth: str, usecase: UseCase) -> bool:
    """Whether a decision says what the label says; all labels of good parts mean the same."""
    good = usecase.outcome.good_labels
    return label == truth or (label in good and truth in good)


# -- the backstop ------------------------------------------------------------------------------------------------------


def with_look(
    connection: sa.Connection, rollout: Rollout, data: Mapping[str, Any], fleet: Sequence[Device], now: datetime
) -> dict[str, Any]:
    """What is remembered of a rollout, with the look of its backstop that is due now; `data` where none is.

    Args:
        fleet: the use case's devices as this rollout sees them.
    """
    policy, looks = rollout.policy.backstop, data.get("looks", [])
    due = due_look(rollout, looks, fleet, now)
    if policy is None or due is None or rollout.started_at is None:
        return dict(data)
    wave, look = due
    opened_at, began = rollout.waves[wave].opened_at, rollout.started_at
    before = intake.counts_by_device(
        connection, (device.id for device in fleet), since=began - timedelta(seconds=policy.before_s), until=began
    )
    after = intake.counts_by_device(connection, (device.id for device in fleet), since=opened_at, until=None)
    target, exposed = rollout.target.release, set(data.get("exposed", {}))
    treated = [device.id for device in fleet if device.id in exposed]
    control = [
        device.id
        for device in fleet
        if device.id not in exposed and device.id not in rollout.members and not device.outside
    ]
    counts = {
        proxy: Counts(
            treated=_table(treated, before, after, proxy, only=target),
            control=_table(control, before, after, proxy, only=None),
        )
        for proxy in policy.proxies
    }
    verdict = judge_backstop(policy, counts, wave=wave, look=look)
    made = {**asdict(verdict), "proxies": [asdict(one) for one in verdict.proxies], "at": now.isoformat()}
    return {**data, "looks": [*looks, made][-LOOKS_KEPT_MAX:]}


def due_look(
    rollout: Rollout, looks: Sequence[Mapping[str, Any]], fleet: Iterable[Device], now: datetime
) -> tuple[int, int] | None:
    """The wave and the number of the look that is due; None where none is.

    The looks of a wave are at even distances over its bake, which begins with its last commit so far. Those that a hub
    missed while it was down are left out: each has a share of the error of its own, and a later one sees more.
    """
    policy = rollout.policy.backstop
    if policy is None or not rollout.waves or rollout.waves[-1].passed_at is not None:
        return None
    wave, inside = len(rollout.waves) - 1, {*rollout.waves[-1].devices, *rollout.waves[-1].joined}
    times = [device.committed_at for device in fleet if device.id in inside and device.committed_at is not None]
    if not times:
        return None
    elapsed_s = (now - max(times)).total_seconds()
    part_s = rollout.policy.bake_s / policy.looks
    look = policy.looks if part_s <= 0 else min(policy.looks, int(elapsed_s / part_s))
    done = max((seen["look"] for seen in looks if seen["wave"] == wave), default=0)
    return (wave, look) if look > done else None


def _table(
    names: Sequence[str],
    before: Mapping[str, Mapping[str | None, ProxyCounts]],
    after: Mapping[str, Mapping[str | None, ProxyCounts]],
    proxy: Proxy,
    *,
    only: str | None,
) -> list[tuple[int, int, int, int]]:
    """Events and decisions before and after, by device; after: of one release alone where `only` names it."""
    table = []
    for name in names:
        past = [counts.of(proxy) for counts in before.get(name, {}).values()]
        now = [counts.of(proxy) for release, counts in after.get(name, {}).items() if only in (None, release)]
        table.append((*_sum(past), *_sum(now)))
    return table


def _sum(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    events = decisions = 0
    for some, of in counts:
        events, decisions = events + some, decisions + of
    return events, decisions


def _thinned(history: list[list[Any]]) -> list[list[Any]]:
    return history if len(history) <= HISTORY_MAX else [*history[:-1:2], history[-1]]
