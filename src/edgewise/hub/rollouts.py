"""Rollouts as the hub keeps them: made, stopped, shown. What happens to their devices is the controller's work."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from edgewise.hub import audit, usecases
from edgewise.hub import releases as release_acts
from edgewise.hub.evidence import evidence_bytes
from edgewise.hub.expected import expected_of
from edgewise.hub.rollout import Event, OpenWave, Rollout, State, Target, answer
from edgewise.hub.rollout_preview import all_problems
from edgewise.hub.situation import Situation
from edgewise.hub.store import Store, champions, devices, releases
from edgewise.hub.store import rollouts as rows
from edgewise.hub.store.releases import ReleaseRow
from edgewise.hub.store.rollouts import RolloutRow
from edgewise.ports import Chance
from edgewise.wire import Condition, NotTrusted, NotValid, RolloutPolicy, plain

WHY_CHARACTERS_MAX = 1000
DRAFT = "0" * 32  # the id of a rollout that is not stored


class Impossible(NotValid):
    """A rollout that could never work on this fleet.

    Attributes:
        reasons: each with its remedy.
    """

    def __init__(self, release: str, reasons: Sequence[str]) -> None:
        text = f"this rollout of {release} could never work: {'; '.join(reasons)}"
        super().__init__(text, code="policy_impossible")
        self.reasons = tuple(reasons)


def create(
    store: Store,
    release: str,
    overrides: Mapping[str, Any],
    *,
    who: str,
    why: str,
    now: datetime,
    chance: Chance,
) -> RolloutRow:
    """Start a rollout of a release. An unfinished one of the same release is given back instead of a second one.

    Args:
        overrides: fields of the use case's rollout policy that are different this time.
    Raises:
        NotValid: no such release, one that was taken back or is not newer than what runs, or a policy with mistakes, or
            one that can never work on this fleet.
    """
    # Before the write, which everybody waits for: a large fleet takes seconds to look at.
    with store.read() as connection:
        wrong = impossible(connection, release, overrides, now)
    if wrong:
        raise Impossible(release, wrong)
    with store.write() as connection:
        return create_in(connection, release, overrides, who=who, why=why, now=now, chance=chance)


def impossible(connection: sa.Connection, release: str, overrides: Mapping[str, Any], now: datetime) -> list[str]:
    """What of a rollout of the release could never work, each with its remedy; nothing of one that is under way.

    Raises:
        NotValid: as `create`, for everything else.
    """
    row = release_acts.need(connection, release)
    if _unfinished(connection, release) is not None:
        return []
    planned, usecase = draft(connection, row, overrides), usecases.need(connection, row.use_case)
    fleet = Situation(connection, usecase, now, started_at=now).fleet(planned, {})
    return all_problems(planned, fleet, expected_of(connection, usecase, now), now)


def _unfinished(connection: sa.Connection, release: str) -> RolloutRow | None:
    found = (row for row in rows.find(connection, release=release) if row.state in rows.UNFINISHED)
    return next(found, None)


def create_in(
    connection: sa.Connection,
    release: str,
    overrides: Mapping[str, Any],
    *,
    who: str,
    why: str,
    now: datetime,
    chance: Chance,
    wrong: Sequence[str] = (),
) -> RolloutRow:
    """`create` inside the caller's write.

    Args:
        wrong: what could never work of it. Nobody is there to read a refusal: the rollout pauses with it, and asks.
    """
    row = release_acts.need(connection, release)
    if (old := _unfinished(connection, release)) is not None:
        return old
    name = chance.id()
    planned = draft(connection, row, overrides, name=name)
    policy, previous = planned.policy, planned.previous.release if planned.previous else None
    state, text = State.RUNNING, why
    if policy.approval == "person":
        state, text = State.WAITING, f"{why}; waits for somebody else than {who} to approve it"
    elif wrong:
        state, text = State.PAUSED, f"{why}; it could never work: {'; '.join(wrong)}; then resume, or abort"
    began = {"started_at": now.isoformat()} if state is not State.WAITING else {}
    rows.add(
        connection,
        name,
        use_case=row.use_case,
        release=release,
        previous=previous,
        state=state.value,
        policy=plain(policy),
        data={**began, "asks": state is State.PAUSED},
        who=who,
        why=text[:WHY_CHARACTERS_MAX],
        now=now,
    )
    data = {"rollout": name, "release": release, "previous": previous, "state": state.value, "policy": plain(policy)}
    audit.note(connection, actor=who, action="rollout.created", subject=release, data=data, now=now)
    return need(connection, name)


def draft(connection: sa.Connection, row: ReleaseRow, overrides: Mapping[str, Any], *, name: str = DRAFT) -> Rollout:
    """A rollout of the release as it would begin now; nothing is stored.

    Raises:
        NotValid: the release was taken back or is not newer than what runs, or the policy has mistakes.
    """
    policy = _policy(usecases.need(connection, row.use_case).rollout, overrides)
    site = release_acts.site_of(row.body["bundles"])
    if site is not None:  # a variant for a site is nobody else's affair
        here = Condition(fact="site", op="eq", value=site)
        policy = policy.model_copy(update={"select": (*policy.select, here)})
    previous = _previous(connection, row, policy)
    _check(row, champions.champion(connection, row.use_case))
    _check_names(connection, row.use_case, policy)
    target = target_of(connection, row.id)
    assert target is not None, f"release {row.id} was just read"
    return Rollout(
        id=name,
        target=target,
        previous=None if previous is None else target_of(connection, previous),
        policy=policy,
        state=State.RUNNING,
    )


def _previous(connection: sa.Connection, row: ReleaseRow, policy: RolloutPolicy) -> str | None:
    """The release to return to: the one that the policy names, else what the fleet runs."""
    if policy.return_to is None:
        previous = champions.champion(connection, row.use_case)
        return None if previous is None or previous.id == row.id else previous.id
    named = releases.get(connection, policy.return_to)
    if named is None or named.use_case != row.use_case:
        raise NotValid(
            f"return_to is {policy.return_to}, and {row.use_case} has no such release; see GET /api/v1/releases",
            code="return_to_wrong",
        )
    if named.version >= row.version or named.withdrawn_at is not None:
        seen = "was withdrawn by its signers" if named.withdrawn_at is not None else f"is not older than {row.id}"
        raise NotValid(f"return_to is {named.id}, which {seen}; name another release", code="return_to_wrong")
    return named.id


def need(connection: sa.Connection, rollout: str) -> RolloutRow:
    """The rollout.

    Raises:
        NotValid: there is none.
    """
    row = rows.get(connection, rollout)
    if row is None:
        raise NotValid(f"there is no rollout {rollout[:80]!r}; see GET /api/v1/rollouts", code="rollout_unknown")
    return row


def operate(store: Store, rollout: str, event: Event, *, who: str, reason: str, now: datetime) -> RolloutRow:
    """A person approves, denies, pauses, resumes, reverts or aborts a rollout.

    Raises:
        NotValid: no such rollout, the move is not possible now, or there is nothing to return to.
        NotTrusted: a second person has to approve it, and this one made it.
    """
    with store.write() as connection:
        row = need(connection, rollout)
        if row.state == _ALREADY.get(event):
            return row
        if event is Event.REVERT:
            _check_revert(connection, row)
        if event is Event.APPROVE:
            _check_second_person(row, who)
        before = as_rollout(connection, row)
        situation = Situation(connection, usecases.need(connection, row.use_case), now, started_at=now)
        fleet = situation.fleet(before, row.data or {})
        answered = answer(before, event, fleet, reason or f"{event.value} by {who}", now)
        data = {**(row.data or {}), **progress_as_data(answered)}
        decided = store.blobs.put(evidence_bytes(before, data, answered.reason))
        set_state(
            connection, row, answered.state, reason=answered.reason, who=who, now=now, data=data, evidence=decided
        )
        return need(connection, rollout)


_ALREADY = {Event.PAUSE: "paused", Event.RESUME: "running", Event.REVERT: "reverting"}


def _check_second_person(row: RolloutRow, who: str) -> None:
    if policy_of(row).approval == "person" and row.who == who:
        raise NotTrusted(
            f"{who} made this rollout of {row.release}, so somebody else has to approve it; ask another approver, or "
            "make a token for one with `edgewise hub token create --role approver`",
            code="own_rollout",
        )


def set_state(
    connection: sa.Connection,
    row: RolloutRow,
    state: State,
    *,
    reason: str,
    who: str,
    now: datetime,
    data: Mapping[str, Any] | None = None,
    evidence: str | None = None,
) -> None:
    """Store a rollout's new state, with what follows from it for its release, and tell the audit log.

    A release that is taken back is marked in the same transaction, so it is champion not for a moment longer. One whose
    rollout was denied, or given up before it began, may be rolled out again.

    Args:
        evidence: digest of the document on which this was decided.
    """
    text = reason[:WHY_CHARACTERS_MAX]
    remembered = dict(row.data or {}) if data is None else dict(data)
    if state in (State.REVERTING, State.FINISHED, State.SUPERSEDED, State.ABORTED) and state.value != row.state:
        remembered["ended_at"] = now.isoformat()
    if state is State.REVERTING:
        remembered["decided_on"] = {"at": now.isoformat(), "blob": evidence, **remembered.get("evidence", {})}
        remembered["returned_to"] = row.previous
    rows.change(connection, row.id, now=now, state=state.value, why=text, data=remembered)
    if state is State.REVERTING or (state is State.ABORTED and row.state != State.WAITING.value):
        releases.mark_reverted(connection, row.release, why=text, now=now)
    note = {"rollout": row.id, "from": row.state, "reason": text, "evidence": remembered.get("evidence", {})}
    if evidence is not None:
        note["blob"] = evidence
    audit.note(connection, actor=who, action=f"rollout.{state.value}", subject=row.release, data=note, now=now)


def as_rollout(connection: sa.Connection, row: RolloutRow) -> Rollout:
    """The row as the pure core sees it."""
    target = target_of(connection, row.release)
    assert target is not None, f"rollout {row.id} names release {row.release}, which is not stored"
    data = row.data or {}
    return Rollout(
        id=row.id,
        target=target,
        previous=None if row.previous is None else target_of(connection, row.previous),
        policy=policy_of(row),
        state=State(row.state),
        waves=tuple(_wave_of_data(wave) for wave in data.get("waves", [])),
        reason=row.why or "",
        shadow=_wave_of_data(data["shadow"]) if data.get("shadow") else None,
        started_at=_time(data.get("started_at")),
        resumed_at=_time(data.get("resumed_at")),
        asks=data.get("asks", False),
        tolerated=frozenset(data.get("tolerated", ())),
        metered_bytes=data.get("metered_bytes", 0),
    )


def progress_as_data(rollout: Rollout) -> dict[str, Any]:
    """What the engine remembers of a rollout beside its state, as it is stored."""
    begun = {} if rollout.started_at is None else {"started_at": rollout.started_at.isoformat()}
    return begun | {
        "waves": [_wave_as_data(wave) for wave in rollout.waves],
        "shadow": None if rollout.shadow is None else _wave_as_data(rollout.shadow),
        "resumed_at": None if rollout.resumed_at is None else rollout.resumed_at.isoformat(),
        "asks": rollout.asks,
        "tolerated": sorted(rollout.tolerated),
        "metered_bytes": rollout.metered_bytes,
    }


def _wave_as_data(wave: OpenWave) -> dict[str, Any]:
    return {
        "devices": list(wave.devices),
        "opened_at": wave.opened_at.isoformat(),
        "passed_at": None if wave.passed_at is None else wave.passed_at.isoformat(),
        "joined": list(wave.joined),
        "by_hand": wave.by_hand,
    }


def _wave_of_data(data: Mapping[str, Any]) -> OpenWave:
    return OpenWave(
        devices=tuple(data["devices"]),
        opened_at=datetime.fromisoformat(data["opened_at"]),
        passed_at=_time(data["passed_at"]),
        joined=tuple(data.get("joined", ())),
        by_hand=data.get("by_hand", False),
    )


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def policy_of(row: RolloutRow) -> RolloutPolicy:
    return RolloutPolicy.model_validate_json(json.dumps(row.policy))


def target_of(connection: sa.Connection, release: str) -> Target | None:
    row = releases.get(connection, release)
    if row is None:
        return None
    return Target(release=row.id, bundle=row.bundle, version=row.version, withdrawn=row.withdrawn_at is not None)


def _check(row: ReleaseRow, previous: ReleaseRow | None) -> None:
    if row.reverted_at is not None:
        raise NotValid(
            f"release {row.id} was taken back ({row.reverted_why}); sign its bundle as a new release to try again",
            code="release_reverted",
        )
    if previous is not None and row.version < previous.version:
        raise NotValid(
            f"release {row.id} is older than {previous.id}, which runs now, and devices refuse to go back to it; "
            "revert the newer one's rollout, or sign the older bundle as a new release",
            code="release_old",
        )


def _policy(base: RolloutPolicy, overrides: Mapping[str, Any]) -> RolloutPolicy:
    from pydantic import ValidationError

    from edgewise.wire import explain

    try:
        return RolloutPolicy.model_validate_json(json.dumps({**plain(base), **overrides}))
    except ValidationError as error:
        raise NotValid(f"the rollout's policy has mistakes: {explain(error)}", code="policy_invalid") from error


def _check_names(connection: sa.Connection, use_case: str, policy: RolloutPolicy) -> None:
    asked = {name for wave in policy.waves for name in wave.named}
    unknown = sorted(asked - set(devices.names(connection, use_case))) if asked else []
    if unknown:
        names = ", ".join(map(repr, unknown[:5]))
        raise NotValid(
            f"a wave names {names}, which {use_case} does not have; see GET /api/v1/devices",
            code="device_unknown",
        )


def _check_revert(connection: sa.Connection, row: RolloutRow) -> None:
    if row.previous is None:
        raise NotValid(
            f"{row.release} was the first release, so there is nothing to return to; pause its rollout, "
            "or roll out another release",
            code="nothing_to_return_to",
        )
    newer = [other for other in rows.find(connection, use_case=row.use_case) if other.made_at > row.made_at]
    active = [
        other
        for other in newer
        if other.state in ("running", "paused", "reverting")
        or (other.state == "finished" and not other.policy.get("select"))
    ]
    if row.state == State.FINISHED.value and active:
        raise NotValid(
            f"{row.release} is no longer what runs: rollout {active[0].id} of {active[0].release} came after it; "
            "revert that one",
            code="not_newest",
        )
