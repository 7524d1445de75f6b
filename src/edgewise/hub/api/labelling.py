"""Routes for labelling by several people: orders, acts and taking them back, operators' words, progress, agreement."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from edgewise.hub import labelling, labelling_queue, labelling_stats, scope, usecases
from edgewise.hub.api.auth import Labeller, ThisHub, Watcher
from edgewise.hub.api.models import Out
from edgewise.hub.api.problems import responses
from edgewise.hub.body import Body
from edgewise.hub.labelling import Answer, Wish
from edgewise.hub.labelling_undo import undo
from edgewise.hub.store import opinions
from edgewise.hub.suggestions import Order, Seen
from edgewise.wire import Annotation, Metric
from edgewise.wire._record import Id

router = APIRouter(prefix="/usecases/{name}/labelling")
SAMPLES_MAX = 100
Limit = Annotated[int, Query(ge=1, le=200)]


class SuggestionOut(Out):
    source: str = Field(description="device, or release: the other one that saw the same frame")
    label: str
    confidence: float
    margin: float
    release: str | None
    annotation: dict[str, Any] | None


class WordOut(Out):
    """What an operator said of a decision."""

    id: str
    site: str
    device: str
    frame: str
    given_at: datetime
    verdict: str = Field(description="wrong, missed or unknown")
    label: str | None
    note: str
    sample: str | None = Field(description="the kept frame; none where it was not kept")
    answer: str | None = Field(description="right, not right or unclear")
    answer_note: str | None
    answered_by: str | None


class CardOut(Out):
    """A sample to label, with what was said of it; for a second opinion nothing of that."""

    sample: str
    blob: str
    media_type: str
    site: str
    device: str | None
    frame: str
    group: str
    why: str
    taken_at: datetime
    label: str | None
    annotation: dict[str, Any] | None
    suggestions: list[SuggestionOut]
    words: list[WordOut]


class NextIn(Body):
    order: Order = "urgent"
    limit: int = Field(1, ge=1, le=SAMPLES_MAX, description="of the order cluster a whole group comes")
    skip: tuple[Id, ...] = Field((), max_length=200)
    sample: Id | None = Field(None, description="this one, whatever the order would give")


class SaidIn(Body):
    sample: Id
    label: str | None = Field(None, min_length=1, max_length=128, description="none: it follows from the annotation")
    annotation: Annotation | None = None
    seen: str | None = Field(
        None, max_length=128, description="the label it had when you looked, empty for none; refused if it has changed"
    )


class ActIn(Body):
    act: Id = Field(description="32 random hexadecimal digits that you choose; the same again is the same act")
    kind: Literal["label", "bulk", "second", "settle"] = "label"
    samples: tuple[SaidIn, ...] = Field(min_length=1, max_length=SAMPLES_MAX)


class ActOut(Out):
    act: str
    samples: list[str]
    changed: int
    again: bool = Field(description="it had been done before, so nothing was done now")


class TakenBackOut(Out):
    kind: str
    samples: list[str]
    left: int = Field(description="samples that somebody labelled since, which stay")


class KeepIn(Body):
    samples: tuple[Id, ...] = Field(min_length=1, max_length=SAMPLES_MAX)


class KeptOut(Out):
    kept: int


class AnswerIn(Body):
    act: Id
    verdict: Answer
    note: str = Field("", max_length=500)


class OpinionOut(Out):
    who: str
    label: str
    annotation: dict[str, Any] | None
    at: datetime
    kind: str
    blind: bool = Field(description="given without knowing another one")
    settled: bool


class SiteCountOut(Out):
    site: str
    labelled: int
    open: int
    labels: dict[str, int]


class PersonOut(Out):
    who: str
    said: int
    today: int
    second: int


class ProgressOut(Out):
    labelled: int
    open: int
    today: int = Field(description="since midnight UTC, at all sites")
    planned_today: int
    labels: dict[str, int]
    sites: list[SiteCountOut]
    why: dict[str, int]
    people: list[PersonOut]
    disputed: int
    unanswered: int


class PairOut(Out):
    people: tuple[str, str]
    same: int
    kappa: Metric


class AgreementOut(Out):
    people: int
    alpha: Metric = Field(description="Krippendorff's, nominal, with its 95 % interval; n: samples with two opinions")
    labels: dict[str, Metric]
    pairs: list[PairOut] = Field(description="Cohen's kappa of each two")
    text: str


class GainOut(Out):
    low: float
    middle: float
    high: float


class NeedOut(Out):
    low: int
    middle: int
    high: int | None


class EnoughOut(Out):
    word: str = Field(examples=["enough", "not yet", "cannot tell"])
    text: str
    labels: int
    gain: GainOut | None = Field(description="what twice the labels would add, with its 90 % interval")
    need: NeedOut | None


def card(seen: Seen) -> CardOut:
    row = seen.row
    same = {name: getattr(row, name) for name in CardOut.model_fields if hasattr(row, name)}
    said = [SuggestionOut.model_validate(one) for one in seen.suggestions]
    words = [WordOut.model_validate(one) for one in seen.words]
    return CardOut(**same, sample=row.id, suggestions=said, words=words)


@router.get("/queue", tags=["labels"], responses=responses(404))
def queue(hub: ThisHub, who: Watcher, name: str, order: Order = "urgent", limit: Limit = 20) -> list[CardOut]:
    """What you would be given in this order. Others may take it meanwhile; POST next gives you samples to keep."""
    with hub.store.read() as connection:
        usecases.need(connection, name)
        scope.check_some(connection, who, name, f"use case {name}")
        found = labelling_queue.queue(hub.store, connection, name, order, who=who, now=hub.now(), limit=limit)
    return [card(one) for one in found]


@router.post("/next", tags=["labels"], responses=responses(404))
def take_next(hub: ThisHub, who: Labeller, name: str, wish: NextIn) -> list[CardOut]:
    """Samples for you alone, for three minutes or until you ask for others; empty where none is left."""
    _check(hub, who, name)
    now, limits = hub.now(), hub.limits
    about: dict[str, Any] = {"skipped": wish.skip, "sample": wish.sample, "limit": wish.limit}
    found = labelling_queue.take(hub.store, name, wish.order, who=who, now=now, limits=limits, **about)
    return [card(one) for one in found]


@router.post("/keep", tags=["labels"], responses=responses(404))
def keep(hub: ThisHub, who: Labeller, name: str, wish: KeepIn) -> KeptOut:
    """Hold on to samples while you still look at them."""
    _check(hub, who, name)
    kept = labelling_queue.keep(hub.store, name, wish.samples, who=who, now=hub.now(), limits=hub.limits)
    return KeptOut(kept=kept)


@router.post("/acts", tags=["labels"], responses=responses(404, 409, 413))
def act(hub: ThisHub, who: Labeller, name: str, wish: ActIn) -> ActOut:
    """Label samples, give second opinions, or settle disputes: all samples of the act or none."""
    _check(hub, who, name)
    wishes = [
        Wish(sample=one.sample, label=one.label, annotation=one.annotation, seen=one.seen) for one in wish.samples
    ]
    about: dict[str, Any] = {"kind": wish.kind, "act": wish.act, "who": who, "now": hub.now(), "limits": hub.limits}
    return ActOut.model_validate(labelling.act(hub.store, name, wishes, **about))


@router.post("/undo", tags=["labels"], responses=responses(404, 409))
def take_back(hub: ThisHub, who: Labeller, name: str) -> TakenBackOut:
    """Take back your newest act that still stands; again for the one before it."""
    _check(hub, who, name)
    return TakenBackOut.model_validate(undo(hub.store, name, who=who, now=hub.now(), limits=hub.limits))


@router.get("/samples/{sample}/opinions", tags=["labels"], responses=responses(404))
def opinions_of(hub: ThisHub, who: Watcher, name: str, sample: str) -> list[OpinionOut]:
    """What each person holds of one sample now, oldest first."""
    with hub.store.read() as connection:
        scope.check_samples(connection, who, [sample])
        row = labelling_queue.need_sample(connection, name, sample)
        found = opinions.of(connection, [row.id]).get(row.id, [])
    return [OpinionOut.model_validate(one) for one in found]


@router.get("/feedback", tags=["labels"], responses=responses(404))
def feedback(hub: ThisHub, who: Watcher, name: str, answered: bool | None = None, limit: Limit = 100) -> list[WordOut]:
    """What operators said of decisions, newest first, with the answers."""
    with hub.store.read() as connection:
        usecases.need(connection, name)
        scope.check_some(connection, who, name, f"use case {name}")
        found = opinions.words(connection, name, answered=answered, limit=limit, sites=who.sites)
    return [WordOut.model_validate(one) for one in found]


@router.post("/feedback/{word}/answer", tags=["labels"], responses=responses(404, 409))
def answer(hub: ThisHub, who: Labeller, name: str, word: str, wish: AnswerIn) -> ActOut:
    """Answer an operator. Labelling the frame answers by itself."""
    about: dict[str, Any] = {"verdict": wish.verdict, "note": wish.note, "act": wish.act}
    done = labelling.answer_word(hub.store, name, word, who=who, now=hub.now(), **about)
    return ActOut.model_validate(done)


@router.get("/progress", tags=["labels"], responses=responses(404))
def progress(hub: ThisHub, who: Watcher, name: str) -> ProgressOut:
    """What is labelled and open, per class and site, and who did what."""
    with hub.store.read() as connection:
        usecases.need(connection, name)
        scope.check_some(connection, who, name, f"use case {name}")
        return ProgressOut.model_validate(labelling_stats.progress(connection, name, who=who, now=hub.now()))


@router.get("/agreement", tags=["labels"], responses=responses(404))
def agreement(hub: ThisHub, who: Watcher, name: str) -> AgreementOut:
    """How far people agree on samples that several judged blind, over all, per label, and each two people."""
    with hub.store.read() as connection:
        usecases.need(connection, name)
        scope.check_some(connection, who, name, f"use case {name}")
        return AgreementOut.model_validate(labelling_stats.agreed(connection, name, who=who))


@router.get("/enough", tags=["labels"], responses=responses(404))
def is_enough(
    hub: ThisHub, who: Watcher, name: str, target: Annotated[float | None, Query(gt=0, lt=1)] = None
) -> EnoughOut:
    """Whether more labels would raise the score, by the rounds that the gate judged; or what is missing to say it."""
    with hub.store.read() as connection:
        usecases.need(connection, name)
        scope.check_whole(connection, who, name, f"the rounds of {name}")
        return EnoughOut.model_validate(labelling_stats.is_enough(connection, name, target=target))


def _check(hub: ThisHub, who: Labeller, name: str) -> None:
    with hub.store.read() as connection:
        usecases.need(connection, name)
        scope.check_some(connection, who, name, f"use case {name}")
