"""Pages on which people label: one sample or group at a time, operators' words, and how it goes."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import Form, Query, Request, Response
from pydantic import ValidationError
from starlette.responses import RedirectResponse

from edgewise.hub import labelling
from edgewise.hub._hub import Hub
from edgewise.hub.access import Person
from edgewise.hub.api.auth import Labeller, ThisHub
from edgewise.hub.api.problems import status_of
from edgewise.hub.console import label_data
from edgewise.hub.console._render import is_part, page, sorry
from edgewise.hub.console._router import router
from edgewise.hub.console.label_data import SKIPPED_MAX, Asked
from edgewise.hub.console.login import Visitor
from edgewise.hub.labelling import Answer, Wish
from edgewise.hub.labelling_undo import undo
from edgewise.hub.suggestions import ORDERS, Order
from edgewise.wire import Annotation, EdgewiseError, NotTrusted, NotValid, explain

ID = re.compile(r"[0-9a-f]{32}")
ANNOTATION_CHARACTERS_MAX = 1 << 20
Ids = Annotated[list[str], Form(max_length=SKIPPED_MAX)]
Text = Annotated[str, Form(max_length=SKIPPED_MAX * 33)]


def asked_for(order: str, mode: str, skip: str, sample: str | None = None) -> Asked:
    """What the address of a labelling page says; what it says wrongly counts as not said."""
    known: Order = next((one for one in ORDERS if one == order), "urgent")
    skipped = tuple(one for one in skip.split(",") if ID.fullmatch(one))[-SKIPPED_MAX:]
    return Asked(order=known, mode=mode if mode in ("whole", "marks") else "", skipped=skipped, sample=sample)


@router.get("/label/{use_case}")
def label_page(
    request: Request,
    hub: ThisHub,
    who: Visitor,
    use_case: str,
    order: str = "",
    mode: str = "",
    skip: str = "",
    sample: str | None = None,
    wanted: Annotated[str | None, Query(alias="use_case")] = None,
) -> Response:
    """The next sample in the order of this person's choice, which nobody else has meanwhile."""
    if wanted is not None and wanted != use_case:
        return RedirectResponse(f"/label/{quote(wanted, safe='')}", status_code=303)
    return _card(request, hub, who, use_case, asked_for(order, mode, skip, sample))


@router.post("/label/{use_case}/say")
def say(
    request: Request,
    hub: ThisHub,
    who: Labeller,
    use_case: str,
    act: Annotated[str, Form(pattern=ID.pattern, max_length=32)],
    kind: Annotated[labelling.Kind, Form()] = "label",
    sample: Ids = [],  # noqa: B006
    shown: Ids = [],  # noqa: B006
    label: Annotated[str, Form(max_length=200)] = "",
    new_label: Annotated[str, Form(max_length=200)] = "",
    annotation: Annotated[str, Form(max_length=ANNOTATION_CHARACTERS_MAX)] = "",
    seen: Annotated[str, Form(max_length=129)] = "",
    order: Text = "",
    mode: Text = "",
    skip: Text = "",
) -> Response:
    """Say what a sample, or each of a group, is; then show the next."""
    asked = asked_for(order, mode, skip)
    # Pictures that were taken out of a group stay open, and are not put before the same person again at once.
    left = [one for one in shown if one not in sample]
    after = asked_for(order, mode, ",".join([*asked.skipped, *left]))

    def do() -> str:
        if not sample:
            return "Nothing was chosen, so nothing was labelled."
        marks = _annotation(annotation)
        said = new_label.strip() or label or None
        # Written with a sign before it, because an empty field of a form counts as none.
        before = seen.removeprefix("=") if seen else None
        wishes = [Wish(sample=one, label=said, annotation=marks, seen=before) for one in sample]
        about: dict[str, Any] = {"kind": kind, "act": act, "who": who, "now": hub.now(), "limits": hub.limits}
        done = labelling.act(hub.store, use_case, wishes, **about)
        return f"{done.changed} pictures are {said}." if kind == "bulk" else ""

    return _after(request, hub, who, use_case, after, do)


@router.post("/label/{use_case}/undo")
def take_back(
    request: Request, hub: ThisHub, who: Labeller, use_case: str, order: Text = "", mode: Text = "", skip: Text = ""
) -> Response:
    """Take back this person's newest act, and show its sample again."""
    asked = asked_for(order, mode, skip)
    try:
        back = undo(hub.store, use_case, who=who, now=hub.now(), limits=hub.limits)
    except EdgewiseError as error:
        return _problem(request, hub, who, use_case, asked, error)
    stays = f" {back.left} stay, because somebody labelled them since." if back.left else ""
    one = back.samples[0] if len(back.samples) == 1 else None
    order_again = "second" if back.kind == "second" else "adjudicate" if back.kind == "settle" else asked.order
    again = asked_for(order_again, mode, skip, one)
    count = f"{len(back.samples)} labels" if len(back.samples) > 1 else "Your last word"
    notice = f"{count} {'are' if len(back.samples) > 1 else 'is'} taken back.{stays}"
    return _card(request, hub, who, use_case, again, notice=notice)


@router.get("/label/{use_case}/progress")
def progress(hub: ThisHub, who: Visitor, use_case: str, target: Annotated[str, Query(max_length=20)] = "") -> Response:
    """What is labelled and open, who did what, how far people agree, and whether it is enough."""

    def values() -> dict[str, Any]:
        return label_data.progress(hub, who, use_case, _target(target))

    return page(hub, who, "label_progress.html", values)


@router.get("/label/{use_case}/words")
def words(hub: ThisHub, who: Visitor, use_case: str) -> Response:
    """What operators said of decisions, and what became of it."""
    return page(hub, who, "label_words.html", lambda: label_data.words(hub, who, use_case))


@router.post("/label/{use_case}/words/{word}")
def answer(
    hub: ThisHub,
    who: Labeller,
    use_case: str,
    word: str,
    act: Annotated[str, Form(pattern=ID.pattern, max_length=32)],
    verdict: Annotated[Answer, Form()],
    note: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """Answer an operator, and back to the list."""
    back = f"/label/{quote(use_case, safe='')}/words"
    about: dict[str, Any] = {"verdict": verdict, "note": note, "act": act, "who": who, "now": hub.now()}
    try:
        labelling.answer_word(hub.store, use_case, word, **about)
    except NotValid as error:
        return sorry(error, who, status=status_of(error), back=back)
    return RedirectResponse(back, status_code=303)


def _card(
    request: Request, hub: Hub, who: Person, use_case: str, asked: Asked, *, notice: str = "", problem: str = ""
) -> Response:
    template = "_label_card.html" if is_part(request) else "label.html"
    about = {"notice": notice, "problem": problem}
    return page(hub, who, template, lambda: label_data.card(hub, who, use_case, asked, **about))


def _after(request: Request, hub: Hub, who: Person, use_case: str, asked: Asked, do: Any) -> Response:
    """Do it, then show the next card; what could not be done is told above it."""
    try:
        notice = do()
    except NotTrusted:
        raise
    except EdgewiseError as error:
        return _problem(request, hub, who, use_case, asked, error)
    if is_part(request):
        return _card(request, hub, who, use_case, asked, notice=notice)
    return RedirectResponse(address(use_case, asked), status_code=303)


def _problem(request: Request, hub: Hub, who: Person, use_case: str, asked: Asked, error: EdgewiseError) -> Response:
    if is_part(request):
        return _card(request, hub, who, use_case, asked, problem=str(error))
    return sorry(error, who, status=status_of(error), back=address(use_case, asked))


def address(use_case: str, asked: Asked) -> str:
    """The address of the page that was asked for."""
    query = {"order": asked.order, "mode": asked.mode, "skip": ",".join(asked.skipped)}
    said = urlencode({name: value for name, value in query.items() if value})
    return f"/label/{quote(use_case, safe='')}?{said}"


def _annotation(text: str) -> Annotation | None:
    if not text.strip():
        return None
    try:
        return Annotation.model_validate_json(text)
    except ValidationError as error:
        raise NotValid(f"what is marked cannot be read: {explain(error)}", code="annotation_invalid") from error


def _target(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < 1 else None
