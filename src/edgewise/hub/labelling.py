"""Acts of people who label: to say, to say it blind a second time, to settle, to answer an operator.

Every act has an id that the page chose: the same one twice is one act. Nobody else can have a sample meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

import sqlalchemy as sa

from edgewise.hub import audit, labels, scope, usecases
from edgewise.hub.access import Action, Person
from edgewise.hub.limits import Limits
from edgewise.hub.store import Store, opinions, samples
from edgewise.hub.store import labels as label_rows
from edgewise.hub.store.opinions import ActRow, FeedbackRow, OpinionRow
from edgewise.hub.store.samples import SampleRow
from edgewise.measure import marks_differ
from edgewise.wire import Annotation, NotValid, UseCase, plain

Kind = Literal["label", "bulk", "second", "settle", "answer"]
Answer = Literal["right", "not right", "unclear"]
ANSWERS: tuple[Answer, ...] = get_args(Answer)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What somebody says of one sample.

    Attributes:
        label: None where it follows from the annotation, see `label_of`.
        seen: the label that the sample had when the person looked at it; empty for none. None does not ask.
    """

    sample: str
    label: str | None = None
    annotation: Annotation | None = None
    seen: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What an act did: how many samples it changed, and whether it had been done before."""

    act: str
    samples: tuple[str, ...]
    changed: int
    again: bool = False


def act(
    store: Store,
    use_case: str,
    wishes: Sequence[Wish],
    *,
    kind: Kind,
    act: str,
    who: Person,
    now: datetime,
    limits: Limits,
) -> Done:
    """Label samples, give second opinions or settle disputes: all of these wishes or none.

    Raises:
        NotValid: no such sample or use case, not a label, somebody else has the sample or labelled it meanwhile, a
            second opinion on one's own label, or a dispute that somebody else has to settle.
        NotTrusted: a sample of a site that is not this person's.
    """
    if not 1 <= len(wishes) <= limits.label_act_samples_max:
        raise NotValid(
            f"{len(wishes)} samples in one act; needs 1 to {limits.label_act_samples_max}, send them in parts",
            code="too_big",
        )
    with store.write() as connection:
        if (known := opinions.act(connection, act)) is not None:
            return _again(known, who)
        usecase = usecases.need(connection, use_case)
        rows = _rows(connection, use_case, wishes, who)
        _check_free(connection, [row.id for row in rows], who, now)
        said = [_with_label(wish, row, usecase) for wish, row in zip(wishes, rows, strict=True)]
        if kind == "second":
            before = [_second(connection, row, wish, act, who, now) for row, wish in zip(rows, said, strict=True)]
        elif kind == "settle":
            before = [_settle(connection, row, wish, act, who, now) for row, wish in zip(rows, said, strict=True)]
        else:
            before = _label(connection, rows, said, act, who, now)
        opinions.release(connection, [row.id for row in rows])
        if before:
            opinions.add_act(connection, act, use_case=use_case, who=who.name, kind=kind, before=before, now=now)
        if kind in ("second", "settle"):
            data = {"act": act, "samples": [row.id for row in rows]}
            action = "labels.second" if kind == "second" else "labels.settled"
            audit.note(connection, actor=who.name, action=action, subject=use_case, data=data, now=now)
    return Done(act=act, samples=tuple(row.id for row in rows), changed=len(before))


def _again(known: ActRow, who: Person) -> Done:
    if known.who != who.name:
        raise NotValid("this act's id is somebody else's; choose 32 random hexadecimal digits", code="act_taken")
    ids = tuple(item["sample"] for item in known.before if "sample" in item)
    return Done(act=known.act, samples=ids, changed=0, again=True)


def _rows(connection: sa.Connection, use_case: str, wishes: Sequence[Wish], who: Person) -> list[SampleRow]:
    if len({wish.sample for wish in wishes}) < len(wishes):
        raise NotValid("a sample is named twice in one act; name it once", code="sample_twice")
    scope.check_samples(connection, who, (wish.sample for wish in wishes))
    found = samples.these(connection, (wish.sample for wish in wishes))
    for wish in wishes:
        if wish.sample not in found or found[wish.sample].use_case != use_case:
            raise NotValid(f"use case {use_case} has no sample {wish.sample[:40]}", code="sample_unknown")
        row = found[wish.sample]
        if wish.seen is not None and (row.label or "") != wish.seen:
            raise NotValid(
                f"sample {row.id[:12]} is labelled {row.label or 'nothing'} now, and was {wish.seen or 'nothing'} when "
                "you looked at it; look again",
                code="labelled_meanwhile",
            )
    return [found[wish.sample] for wish in wishes]


def _check_free(connection: sa.Connection, ids: Sequence[str], who: Person, now: datetime) -> None:
    for sample, other in opinions.claimed(connection, ids, now=now).items():
        if other != who.name:
            raise NotValid(f"{other} looks at sample {sample[:12]} now; take another one", code="claimed")


def _with_label(wish: Wish, row: SampleRow, usecase: UseCase) -> labels.NewLabel:
    label = wish.label
    if not label and wish.annotation is not None:
        label = label_of(wish.annotation, usecase)
    if not label:
        raise NotValid(f"sample {row.id[:12]} got no label; name one", code="label_invalid")
    return labels.NewLabel(row.id, labels.check_label(label), wish.annotation)


def label_of(annotation: Annotation, usecase: UseCase) -> str:
    """The one label of a sample that follows from what is marked in it.

    That is the marked label that matters most – by the use case's list of those, else the one marked most often – and
    the good label where nothing is marked.

    Raises:
        NotValid: nothing is marked and the use case has no good label.
    """
    marked = [box.label for box in annotation.boxes or ()] + [span.label for span in annotation.spans or ()]
    bad = [label for label in marked if label not in usecase.outcome.good_labels] or marked
    for label in usecase.outcome.labels_that_matter:
        if label in bad:
            return label
    if bad:
        return min(Counter(bad).items(), key=lambda pair: (-pair[1], pair[0]))[0]
    if not usecase.outcome.good_labels:
        raise NotValid(
            f"nothing is marked, and use case {usecase.name} has no good label; say what the sample is",
            code="label_invalid",
        )
    return usecase.outcome.good_labels[0]


# -- the three ways to say something -----------------------------------------------------------------------------------


def _label(
    connection: sa.Connection,
    rows: Sequence[SampleRow],
    said: Sequence[labels.NewLabel],
    act: str,
    who: Person,
    now: datetime,
    kind: str = "label",
) -> list[dict[str, Any]]:
    held = {row.id: label_rows.holds(connection, row.id) for row in rows}
    before = opinions.of(connection, [row.id for row in rows])
    labels.set_in(connection, said, who=who.name, now=now, act=act, kind=kind)
    after = opinions.of(connection, [row.id for row in rows])
    found = []
    for row in rows:
        # A label that says what is known changes nothing, so there is nothing to take back either.
        if (place := label_rows.holds(connection, row.id)) == held[row.id]:
            continue
        item = _moved(row.id, before.get(row.id, []), after[row.id])
        found.append({**item, "place": place, "held": 0 if row.label is None else held[row.id]})
    _answer_words(connection, rows, {one.sample: one.label for one in said}, act, who, now)
    return found


def _second(
    connection: sa.Connection, row: SampleRow, said: labels.NewLabel, act: str, who: Person, now: datetime
) -> dict[str, Any]:
    before = opinions.of(connection, [row.id]).get(row.id, [])
    if row.label is None:
        raise NotValid(f"sample {row.id[:12]} has no label yet, so yours would be the first", code="second_first")
    if any(one.who == who.name for one in before):
        raise NotValid(
            f"you have judged sample {row.id[:12]} already; a second opinion is somebody else's", code="second_own"
        )
    _hold(connection, row, said, kind="second", blind=True, settled=False, act=act, who=who, now=now)
    return _moved(row.id, before, opinions.of(connection, [row.id])[row.id])


def _settle(
    connection: sa.Connection, row: SampleRow, said: labels.NewLabel, act: str, who: Person, now: datetime
) -> dict[str, Any]:
    before = opinions.of(connection, [row.id]).get(row.id, [])
    if not in_dispute(row, before):
        raise NotValid(f"nobody disputes the label of sample {row.id[:12]}; choose another one", code="no_dispute")
    if any(one.who == who.name for one in before) and not who.may(Action.APPROVE):
        raise NotValid(
            f"you are one of those who differ about sample {row.id[:12]}; somebody else settles it, or an approver",
            code="settle_own",
        )
    if row.label != said.label or (said.annotation is not None and row.annotation != plain(said.annotation)):
        return _label(connection, [row], [said], act, who, now, kind="settle")[0]
    opinions.settle(connection, [one.position for one in before])
    _hold(connection, row, said, kind="settle", blind=False, settled=True, act=act, who=who, now=now)
    return _moved(row.id, before, opinions.of(connection, [row.id])[row.id])


def _hold(
    connection: sa.Connection,
    row: SampleRow,
    said: labels.NewLabel,
    *,
    kind: str,
    blind: bool,
    settled: bool,
    act: str,
    who: Person,
    now: datetime,
) -> None:
    opinions.add(
        connection,
        row.use_case,
        row.id,
        who=who.name,
        label=said.label,
        annotation=None if said.annotation is None else plain(said.annotation),
        kind=kind,
        blind=blind,
        settled=settled,
        act=act,
        now=now,
        differs=not settled and _differs(row, said),
    )


def _differs(row: SampleRow, said: labels.NewLabel) -> bool:
    """Whether this is something else than the label, or other marks than those that were set with it."""
    held = None if row.annotation is None else Annotation.model_validate(row.annotation)
    return row.label != said.label or marks_differ(held, said.annotation)


def _moved(sample: str, before: Sequence[OpinionRow], after: Sequence[OpinionRow]) -> dict[str, Any]:
    """What an act did to the opinions about a sample, so that it can be turned round."""
    old, new = {one.position: one for one in before}, {one.position: one for one in after}
    return {
        "sample": sample,
        "added": sorted(new.keys() - old.keys()),
        "replaced": sorted(old.keys() - new.keys()),
        "settled": sorted(at for at in old.keys() & new.keys() if new[at].settled and not old[at].settled),
    }


def in_dispute(row: SampleRow, said: Sequence[OpinionRow]) -> bool:
    """Whether somebody said something else than the label, and nobody has settled it."""
    return row.label is not None and any(not one.settled and one.differs for one in said)


# -- operators ---------------------------------------------------------------------------------------------------------


def _answer_words(
    connection: sa.Connection,
    rows: Sequence[SampleRow],
    said: dict[str, str],
    act: str,
    who: Person,
    now: datetime,
) -> None:
    """A label answers what operators said of the frame, where nobody has answered yet."""
    kept = {(row.device, row.frame): row for row in rows if row.device is not None}
    words = opinions.words_of(connection, [(str(device), frame) for device, frame in kept])
    if not words:
        return
    good = usecases.need(connection, rows[0].use_case).outcome.good_labels
    for word in words:
        row = kept[word.device, word.frame]
        if word.answer is None:
            verdict = answer_of(word, said[row.id], (row.decision or {}).get("label"), good)
            values = {"verdict": verdict, "note": f"labelled {said[row.id]}", "act": act}
            opinions.answer(connection, word.id, use_case=row.use_case, who=who.name, now=now, **values)


def answer_of(word: FeedbackRow, label: str, decided: str | None, good: Sequence[str]) -> Answer:
    """Whether an operator was right, by the label that a person gave the frame since."""
    if word.verdict == "unknown":
        return "right" if label not in (decided, None) else "not right"
    if word.label is not None:
        return "right" if word.label == label or (word.label in good and label in good) else "not right"
    if word.verdict == "missed":
        return "right" if label not in good else "not right"
    return "right" if label != decided else "not right"


def answer_word(
    store: Store, use_case: str, name: str, *, verdict: Answer, note: str, act: str, who: Person, now: datetime
) -> Done:
    """Answer an operator by hand, also about a frame that was not kept.

    Raises:
        NotValid: there is no such word. NotTrusted: it is of another person's site.
    """
    with store.write() as connection:
        if (known := opinions.act(connection, act)) is not None:
            return _again(known, who)
        word = opinions.word(connection, name)
        if word is None or opinions.use_case_of_word(connection, name) != use_case:
            raise NotValid(f"no operator said {name[:40]!r} in use case {use_case}", code="feedback_unknown")
        who.check_sites([word.site], f"what an operator said at {word.device}")
        values = {"verdict": verdict, "note": note.strip(), "act": act}
        opinions.answer(connection, name, use_case=use_case, who=who.name, now=now, **values)
        opinions.add_act(connection, act, use_case=use_case, who=who.name, kind="answer", before=[], now=now)
        data = {"feedback": name, "answer": verdict}
        audit.note(connection, actor=who.name, action="feedback.answered", subject=use_case, data=data, now=now)
    return Done(act=act, samples=() if word.sample is None else (word.sample,), changed=1)
