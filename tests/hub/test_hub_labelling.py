"""Labelling by several people: blind second opinions, disputes, claims, answers to operators, and taking back."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from PIL import Image

import loop_world
from edgewise.frames import SERIES_TYPE
from edgewise.hub import label_view, labelling, labelling_queue, labelling_stats, labels
from edgewise.hub.access import Person, Refused
from edgewise.hub.clusters import largest_group
from edgewise.hub.labelling import Wish
from edgewise.hub.labelling_undo import undo
from edgewise.hub.samples import ImportedSample, import_samples
from edgewise.hub.store import erasures, ledger, opinions, samples, tables, verdicts
from edgewise.hub.store import labels as label_rows
from edgewise.hub.suggestions import ORDERS, Seen, Suggestion, ordered
from edgewise.wire import Annotation, Box, Decision, Feedback, NotValid, SiteVerdict, Span, plain

ANN, BOB, CLEO = (Person(name=name, role="labeller") for name in ("ann", "bob", "cleo"))
BOSS = Person(name="boss", role="approver")
SOUTH = Person(name="sue", role="labeller", sites=frozenset({"south"}))


def name(number: int) -> str:
    return f"{number:032x}"


def say(yard: Any, who: Person, *wishes: Wish | tuple[str, str], act: int, kind: str = "label") -> labelling.Done:
    asked = [wish if isinstance(wish, Wish) else Wish(sample=wish[0], label=wish[1]) for wish in wishes]
    hub = yard.hub
    about: dict[str, Any] = {"kind": kind, "act": name(act), "who": who, "now": hub.now(), "limits": hub.limits}
    return labelling.act(hub.store, "press", asked, **about)


def take_back(yard: Any, who: Person) -> Any:
    return undo(yard.hub.store, "press", who=who, now=yard.hub.now(), limits=yard.hub.limits)


def take(yard: Any, who: Person, order: str = "newest", **more: Any) -> list[str]:
    hub = yard.hub
    found = labelling_queue.take(hub.store, "press", order, who=who, now=hub.now(), limits=hub.limits, **more)
    return [one.row.id for one in found]


def row(yard: Any, sample: str) -> Any:
    with yard.hub.store.read() as connection:
        return samples.get(connection, sample)


def history(yard: Any, sample: str) -> list[tuple[str, str, str | None]]:
    with yard.hub.store.read() as connection:
        return [(one["label"], one["who"], one["taken_back_by"]) for one in label_rows.history(connection, sample)]


def stats(yard: Any, function: Any, **more: Any) -> Any:
    with yard.hub.store.read() as connection:
        return function(connection, "press", **more)


def disputed(yard: Any) -> list[str]:
    with yard.hub.store.read() as connection:
        return [one.id for one in opinions.disputed(connection, "press", limit=10)]


def two(yard: Any) -> list[str]:
    return yard.bring_in(("north", "a", "", None), ("north", "b", "", None))


# -- saying ------------------------------------------------------------------------------------------------------------


def test_the_same_act_twice_is_one(yard):
    first, _ = two(yard)
    done = say(yard, ANN, (first, "pit"), act=1)
    assert (done.changed, done.again) == (1, False)
    again = say(yard, ANN, (first, "good"), act=1)
    assert (again.changed, again.again, again.samples) == (0, True, (first,))
    assert history(yard, first) == [("pit", "ann", None)]
    with pytest.raises(NotValid, match="somebody else's"):
        say(yard, BOB, (first, "good"), act=1)


def test_a_label_that_came_meanwhile_is_not_overwritten_unseen(yard):
    first, second = two(yard)
    say(yard, ANN, (first, "pit"), act=1)
    with pytest.raises(NotValid, match="labelled pit now, and was nothing") as told:
        say(yard, BOB, Wish(sample=second, label="good", seen=""), Wish(sample=first, label="good", seen=""), act=2)
    assert told.value.code == "labelled_meanwhile"
    assert row(yard, second).label is None, "all or none"
    say(yard, BOB, Wish(sample=first, label="good", seen="pit"), act=3)
    assert row(yard, first).label == "good"
    assert disputed(yard) == [], "who saw the label and changed it has settled it"


def test_the_label_of_what_is_marked_follows_from_the_marks(yard):
    usecase = yard.apply()
    pit = Box(label="pit", x1=0.1, y1=0.1, x2=0.2, y2=0.3)
    dent = pit.model_copy(update={"label": "dent"})
    span = Span(label="scratch", start=1, end=4)
    for annotation, label in (
        (Annotation(boxes=()), "good"),
        (Annotation(boxes=(pit, dent, dent)), "dent"),
        (Annotation(boxes=(pit, dent)), "dent"),
        (Annotation(spans=(span,)), "scratch"),
    ):
        assert labelling.label_of(annotation, usecase) == label
    outcome = usecase.outcome.model_copy(update={"labels_that_matter": ("pit",), "good_labels": ("good",)})
    mattering = usecase.model_copy(update={"outcome": outcome})
    assert labelling.label_of(Annotation(boxes=(pit, dent, dent)), mattering) == "pit"
    bare = usecase.model_copy(update={"outcome": outcome.model_copy(update={"good_labels": ()})})
    with pytest.raises(NotValid, match="has no good label"):
        labelling.label_of(Annotation(boxes=()), bare)


def test_boxes_are_stored_with_the_label_that_follows_from_them(yard):
    first, _ = two(yard)
    boxes = Annotation(boxes=(Box(label="pit", x1=0.1, y1=0.1, x2=0.2, y2=0.3),))
    say(yard, ANN, Wish(sample=first, annotation=boxes), act=1)
    assert (row(yard, first).label, row(yard, first).annotation) == ("pit", plain(boxes))
    with pytest.raises(NotValid, match="got no label"):
        say(yard, ANN, Wish(sample=first), act=2)


def test_an_act_is_bounded_and_stays_in_its_use_case_and_sites(yard):
    first, second = two(yard)
    with pytest.raises(NotValid, match="needs 1 to 100"):
        say(yard, ANN, *[Wish(sample=name(at), label="pit") for at in range(101)], act=1)
    with pytest.raises(NotValid, match="has no sample"):
        say(yard, ANN, (name(7), "pit"), act=1)
    with pytest.raises(NotValid, match="named twice"):
        say(yard, ANN, (first, "pit"), (first, "good"), act=1)
    with pytest.raises(Refused, match="sue"):
        say(yard, SOUTH, (second, "pit"), act=1)
    assert yard.rows(tables.label_acts) == []


# -- several people ----------------------------------------------------------------------------------------------------


def test_a_second_opinion_leaves_the_label_and_a_third_person_settles_what_differs(yard):
    first, second = two(yard)
    say(yard, ANN, (first, "pit"), (second, "pit"), act=1)
    with pytest.raises(NotValid, match="somebody else's"):
        say(yard, ANN, (first, "good"), act=2, kind="second")
    say(yard, BOB, (first, "good"), (second, "pit"), act=3, kind="second")
    assert (row(yard, first).label, disputed(yard)) == ("pit", [first])
    with pytest.raises(NotValid, match="one of those who differ"):
        say(yard, BOB, (first, "good"), act=4, kind="settle")
    with pytest.raises(NotValid, match="nobody disputes"):
        say(yard, CLEO, (second, "good"), act=4, kind="settle")
    say(yard, CLEO, (first, "good"), act=5, kind="settle")
    assert (row(yard, first).label, disputed(yard)) == ("good", [])
    assert history(yard, first) == [("pit", "ann", None), ("good", "cleo", None)]
    actions = [one["action"] for one in yard.rows(tables.audit) if one["action"].startswith("labels.")]
    assert actions == ["labels.set", "labels.second", "labels.set", "labels.settled"]


@pytest.mark.parametrize("word", ["pit", "good", "scratch"])
def test_an_approver_who_differed_may_settle_and_what_they_said_blind_still_counts(yard, word):
    first, _ = two(yard)
    say(yard, ANN, (first, "pit"), act=1)
    say(yard, BOSS, (first, "good"), act=2, kind="second")
    say(yard, BOSS, (first, word), act=3, kind="settle")
    assert (row(yard, first).label, disputed(yard)) == (word, [])
    found = stats(yard, labelling_stats.agreed, who=ANN)
    assert (found.alpha.n, found.pairs[0].same) == (1, 0)
    blind = stats(yard, opinions.blind, limit=10, sites=None)
    assert {(one.who, one.label) for one in blind} == {("ann", "pit"), ("boss", "good")}


def test_marks_that_lie_elsewhere_are_a_dispute_and_those_nearly_alike_are_none(yard):
    ids = yard.bring_in(*[("north", f"{at}", "", None) for at in range(3)])
    pit = Box(label="pit", x1=0.1, y1=0.1, x2=0.3, y2=0.3)
    near, far = pit.model_copy(update={"x1": 0.12}), pit.model_copy(update={"x1": 0.22, "x2": 0.42})

    def boxes(sample: str, *marked: Box) -> Wish:
        return Wish(sample=sample, annotation=Annotation(boxes=marked))

    say(yard, ANN, *[boxes(one, pit) for one in ids], act=1)
    say(yard, BOB, boxes(ids[0], near), boxes(ids[1], far), boxes(ids[2], pit, far), act=2, kind="second")
    assert set(disputed(yard)) == set(ids[1:])
    say(yard, CLEO, boxes(ids[1], far), act=3, kind="settle")
    assert row(yard, ids[1]).annotation == plain(Annotation(boxes=(far,)))
    assert disputed(yard) == [ids[2]]


def test_a_new_first_word_is_held_against_a_second_opinion_that_is_there(yard):
    first, _ = two(yard)
    say(yard, ANN, (first, "pit"), act=1)
    say(yard, BOB, (first, "pit"), act=2, kind="second")
    take_back(yard, ANN)
    assert disputed(yard) == []
    say(yard, CLEO, (first, "good"), act=3)
    assert disputed(yard) == [first]


def test_there_is_no_second_opinion_before_the_first(yard):
    first, _ = two(yard)
    with pytest.raises(NotValid, match="would be the first"):
        say(yard, BOB, (first, "good"), act=1, kind="second")


def test_the_queue_of_second_opinions_holds_what_one_other_person_said(yard):
    ids = yard.bring_in(*[("north", f"{at}", "", None) for at in range(6)])
    say(yard, ANN, *[(one, "pit") for one in ids[:4]], act=1)
    say(yard, BOB, (ids[0], "pit"), act=2, kind="second")
    assert take(yard, ANN, "second", limit=10) == []
    assert set(take(yard, BOB, "second", limit=10)) == set(ids[1:4])
    assert take(yard, CLEO, "second", limit=10) == [], "bob looks at them"


def test_labels_that_came_over_the_api_are_opinions_too(yard):
    first, _ = two(yard)
    labels.set_labels(yard.hub.store, [(first, "pit")], who="ann", now=yard.hub.now())
    say(yard, BOB, (first, "good"), act=1, kind="second")
    assert disputed(yard) == [first]
    labels.set_labels(yard.hub.store, [(first, "good")], who="ann", now=yard.hub.now())
    assert disputed(yard) == []


# -- nobody else meanwhile ---------------------------------------------------------------------------------------------


def test_two_people_never_get_the_same_open_sample_until_a_claim_runs_out(yard):
    ids = yard.bring_in(*[("north", f"{at}", "", None) for at in range(3)])
    (anns,), (bobs,) = take(yard, ANN), take(yard, BOB)
    assert anns != bobs
    assert take(yard, ANN) == [anns], "the same person gets the same again"
    with pytest.raises(NotValid, match="ann looks at sample"):
        say(yard, BOB, (anns, "pit"), act=1)
    held = yard.hub.limits.label_claim_s
    yard.clock.advance(held - 1)
    hub = yard.hub
    kept = labelling_queue.keep(hub.store, "press", [anns], who=ANN, now=hub.now(), limits=hub.limits)
    assert kept == 1
    yard.clock.advance(2)
    assert set(take(yard, CLEO, limit=3)) == set(ids) - {anns}, "bob's ran out, ann's was held on to"
    yard.clock.advance(held)
    say(yard, BOB, (anns, "pit"), act=2)


def test_people_who_ask_at_once_all_get_samples_of_their_own(make_yard, tmp_path):
    yard = make_yard(data_dir=tmp_path / "hub")
    ids = yard.bring_in(*[("north", f"{at}", "", None) for at in range(12)])
    crowd = [Person(name=f"p{at}", role="labeller") for at in range(6)]
    start = threading.Barrier(len(crowd))

    def ask(who: Person) -> list[str]:
        start.wait(10)
        return take(yard, who, limit=2)

    with ThreadPoolExecutor(len(crowd)) as pool:
        got = [one for some in pool.map(ask, crowd) for one in some]
    assert sorted(got) == sorted(ids)


def test_who_skips_a_sample_gives_it_back(yard):
    two(yard)
    (one,) = take(yard, ANN)
    (other,) = take(yard, ANN, skipped=[one])
    assert other != one
    assert take(yard, BOB) == [one]
    with yard.hub.store.read() as connection:
        assert opinions.claimed(connection, [one, other], now=yard.hub.now()) == {one: "bob", other: "ann"}


# -- taking back -------------------------------------------------------------------------------------------------------


def test_several_acts_are_taken_back_one_after_the_other_and_the_history_says_so(yard):
    first, second = two(yard)
    say(yard, ANN, (first, "pit"), act=1)
    say(yard, ANN, (first, "scratch"), act=2)
    say(yard, ANN, (first, "good"), (second, "good"), act=3, kind="bulk")
    assert set(take_back(yard, ANN).samples) == {first, second}
    assert (row(yard, first).label, row(yard, second).label) == ("scratch", None)
    take_back(yard, ANN)
    assert row(yard, first).label == "pit"
    take_back(yard, ANN)
    assert row(yard, first).label is None
    with pytest.raises(NotValid, match="nothing of yours"):
        take_back(yard, ANN)
    words = [("pit", None), ("scratch", None), ("good", None), ("scratch", "ann"), ("pit", "ann"), ("", "ann")]
    assert history(yard, first) == [(label, "ann", back) for label, back in words]
    assert stats(yard, label_rows.labelled_after, position=0) == []
    assert stats(yard, labelling_stats.progress, who=ANN, now=yard.hub.now()).open == 2
    say(yard, ANN, (first, "pit"), act=4)
    assert row(yard, first).label == "pit"


def test_what_somebody_else_said_since_stays(yard):
    first, second = two(yard)
    say(yard, ANN, (first, "pit"), (second, "pit"), act=1)
    say(yard, BOB, (first, "good"), act=2)
    back = take_back(yard, ANN)
    assert (back.left, row(yard, first).label, row(yard, second).label) == (1, "good", None)
    with pytest.raises(NotValid):
        take_back(yard, CLEO)


def test_a_second_opinion_and_a_settlement_are_taken_back(yard):
    first, _ = two(yard)
    say(yard, ANN, (first, "pit"), act=1)
    say(yard, BOB, (first, "good"), act=2, kind="second")
    say(yard, CLEO, (first, "good"), act=3, kind="settle")
    take_back(yard, CLEO)
    assert (row(yard, first).label, disputed(yard)) == ("pit", [first])
    say(yard, CLEO, (first, "pit"), act=4, kind="settle")
    assert disputed(yard) == []
    take_back(yard, CLEO)
    assert disputed(yard) == [first]
    take_back(yard, BOB)
    assert disputed(yard) == []
    assert history(yard, first)[-1] == ("pit", "ann", "cleo")


def test_an_act_of_yesterday_is_not_taken_back(yard):
    first, _ = two(yard)
    say(yard, ANN, (first, "pit"), act=1)
    yard.clock.advance(yard.hub.limits.label_undo_s + 1)
    with pytest.raises(NotValid, match="within 24 hours"):
        take_back(yard, ANN)


# -- operators ---------------------------------------------------------------------------------------------------------


def spoken(yard: Any, **words: Any) -> str:
    """A sample of a device of which its operator said something; its id."""
    device = yard.enrol("cam")
    kept = device.sample("f1")
    word = {"verdict": "wrong", **words}
    told = Feedback(id=device.id(), frame="f1", site="north", given_at=yard.clock.now(), **word)
    lost = Feedback(
        id=device.id(), frame="gone", site="north", given_at=yard.clock.now(), verdict="missed", note="dark"
    )
    device.send(
        device.segment(1, kept),
        device.segment(2, told, lost, record_class="feedback"),
    )
    return kept.id


@pytest.mark.parametrize(
    ("words", "label", "answer"),
    [
        ({}, "pit", "right"),
        ({}, "good", "not right"),
        ({"label": "pit"}, "pit", "right"),
        ({"label": "pit"}, "scratch", "not right"),
        ({"verdict": "missed"}, "scratch", "right"),
        ({"verdict": "unknown"}, "scratch", "right"),
        ({"verdict": "unknown"}, "good", "not right"),
    ],
)
def test_a_label_answers_the_operator(yard, words, label, answer):
    sample = spoken(yard, **words)
    say(yard, ANN, (sample, label), act=1)
    found = stats(yard, opinions.words, answered=True, limit=10, sites=None)
    assert [(one.sample, one.answer, one.answered_by) for one in found] == [(sample, answer, "ann")]
    take_back(yard, ANN)
    assert len(stats(yard, opinions.words, answered=False, limit=10, sites=None)) == 2


def test_an_operator_is_answered_by_hand_about_a_frame_that_was_not_kept(yard):
    spoken(yard)
    lost = next(one for one in stats(yard, opinions.words, answered=None, limit=10, sites=None) if one.sample is None)
    about: dict[str, Any] = {"verdict": "unclear", "note": " no picture ", "act": name(1), "now": yard.hub.now()}
    with pytest.raises(Refused):
        labelling.answer_word(yard.hub.store, "press", lost.id, who=SOUTH, **about)
    with pytest.raises(NotValid, match="no operator said"):
        labelling.answer_word(yard.hub.store, "press", name(9), who=ANN, **about)
    labelling.answer_word(yard.hub.store, "press", lost.id, who=ANN, **about)
    assert labelling.answer_word(yard.hub.store, "press", lost.id, who=ANN, **about).again
    (found,) = stats(yard, opinions.words, answered=True, limit=10, sites=None)
    assert (found.answer, found.answer_note, found.answered_by) == ("unclear", "no picture", "ann")


# -- orders ------------------------------------------------------------------------------------------------------------


def machine(label: str, margin: float, source: str = "device") -> Suggestion:
    return Suggestion(source=source, label=label, confidence=0.5 + margin / 2, margin=margin)


def test_orders_put_first_what_they_are_named_after(yard):
    ids = yard.bring_in(*[("north", f"{at}", "", None) for at in range(4)])
    word = opinions.FeedbackRow(
        id="w",
        site="north",
        device="cam",
        frame="f",
        given_at=yard.hub.now(),
        verdict="wrong",
        label=None,
        note="",
        sample=None,
        answer=None,
        answer_note=None,
        answered_by=None,
    )
    said = [
        ((machine("good", 0.99), machine("pit", 0.8, "release")), ()),
        ((machine("good", 0.1),), ()),
        ((), ()),
        ((machine("good", 0.95),), (word,)),
    ]
    held = [
        Seen(row=row(yard, one), suggestions=machines, words=words)
        for one, (machines, words) in zip(ids, said, strict=True)
    ]

    def first(order: Any) -> list[int]:
        return [ids.index(one.row.id) for one in ordered(order, held)]

    assert first("uncertain") == [1, 0, 3, 2]
    assert first("disagreement")[:2] == [3, 0]
    assert first("urgent") == [0, 1, 2, 3]


def test_every_order_gives_open_samples_of_ones_own_sites(yard):
    device = yard.enrol("cam")
    sure = device.sample("sure", decision=Decision(label="good", confidence=0.9, margin=0.9, bundle="0" * 64))
    unsure = device.sample("unsure", decision=Decision(label="good", confidence=0.5, margin=0.1, bundle="0" * 64))
    other = Decision(label="pit", confidence=0.6, margin=0.2, bundle="1" * 64)
    apart = device.sample("apart", shadow=other, why="disagreement")
    device.send(device.segment(1, sure, unsure), device.segment(2, apart, record_class="disagreement"))
    yard.bring_in(("south", "s", "", None))
    assert take(yard, ANN, "uncertain", limit=2) == [unsure.id, apart.id]
    assert take(yard, ANN, "disagreement", limit=9) == [apart.id]
    assert take(yard, ANN, "urgent")[0] == apart.id
    souths = {order: len(take(yard, SOUTH, order, limit=9)) for order in ORDERS}
    assert {order for order, count in souths.items() if count} == {"urgent", "newest"}
    with pytest.raises(NotValid, match="has no sample"):
        take(yard, ANN, sample=name(1))


def bring(yard: Any, contents: list[bytes], media_type: str) -> list[str]:
    hub = yard.hub
    wanted = [
        ImportedSample(
            use_case="press",
            site="north",
            frame=f"frame {at}",
            blob=hub.store.blobs.put(data),
            size_bytes=len(data),
            media_type=media_type,
            taken_at=hub.now(),
        )
        for at, data in enumerate(contents)
    ]
    return import_samples(hub.store, wanted, who="test", now=hub.now())


def picture(shape: int, grain: int) -> bytes:
    base = np.kron(np.random.default_rng(shape).integers(60, 196, (8, 8)), np.ones((8, 8)))
    noisy = base + np.random.default_rng(grain).normal(0, 4, base.shape)
    held = io.BytesIO()
    Image.fromarray(noisy.astype(np.uint8)).save(held, "PNG")
    return held.getvalue()


def test_pictures_that_look_alike_come_as_one_group(yard):
    shapes = [
        (shape, grain)
        for shape, count in ((1, 4), (2, 2), *((one, 1) for one in range(3, 11)))
        for grain in range(count)
    ]
    ids = bring(yard, [picture(*shape) for shape in shapes], "image/png")
    assert set(take(yard, ANN, "cluster")) == set(ids[:4])
    assert set(take(yard, BOB, "cluster")) == set(ids[4:6]), "ann has the first group"
    say(yard, ANN, *[(one, "pit") for one in ids[:4]], act=1, kind="bulk")
    assert [row(yard, one).label for one in ids[:4]] == ["pit"] * 4
    take_back(yard, ANN)
    assert [row(yard, one).label for one in ids[:4]] == [None] * 4


def test_a_group_never_mixes_what_the_device_called_differently():
    alike = np.ones((4, 4))
    assert largest_group(alike, np.array(["a", "b", "b", "b"])) == [1, 2, 3]


# -- what is shown -----------------------------------------------------------------------------------------------------


def shown(yard: Any, data: bytes, media_type: str) -> label_view.View:
    (sample,) = bring(yard, [data], media_type)
    with yard.hub.store.read() as connection:
        return label_view.view(yard.hub.store, connection, samples.get(connection, sample))


def test_a_window_of_a_series_is_shown_step_by_step(yard):
    view = shown(yard, np.array([1.5, np.nan, 3.0], "<f4").tobytes(), SERIES_TYPE)
    assert (view.kind, view.channels, view.length) == ("series", (("value", (1.5, None, 3.0)),), 3)
    assert "no bundle names its channels" in view.note


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b'{"speed": 4, "who": [1]}', "row"),
        (b'{"x": [1, 2, null], "y": [3, 4, 5], "line": "b"}', "series"),
        (b'{"x": [1, 2], "y": [1, 2, 3]}', "row"),
        (b"[1, 2.5]", "series"),
        (b"[[[", "text"),
        (b"\xff\x00 words", "text"),
        (b"[" * 100_000, "text"),
    ],
)
def test_content_is_shown_as_what_it_is(yard, data, kind):
    assert shown(yard, data, "application/json").kind == kind


# -- how it goes -------------------------------------------------------------------------------------------------------


def test_progress_counts_classes_sites_people_and_days(yard):
    ids = yard.bring_in(*[("north", f"{at}", "", None) for at in range(4)], ("south", "s", "", None))
    say(yard, ANN, (ids[0], "pit"), (ids[1], "good"), act=1)
    say(yard, BOB, (ids[0], "good"), act=2, kind="second")
    yard.clock.advance(timedelta(days=1).total_seconds())
    say(yard, BOB, (ids[2], "pit"), act=3)
    found = stats(yard, labelling_stats.progress, who=ANN, now=yard.hub.now())
    assert (found.labelled, found.open, found.today, found.disputed) == (3, 2, 1, 1)
    assert dict(found.labels) == {"good": 1, "pit": 2}
    assert [(one.site, one.labelled, one.open) for one in found.sites] == [("north", 3, 1), ("south", 0, 1)]
    people = {one["who"]: (one["said"], one["today"], one["second"]) for one in found.people}
    assert people == {"ann": (2, 0, 0), "bob": (2, 1, 1)}
    south = stats(yard, labelling_stats.progress, who=SOUTH, now=yard.hub.now())
    assert (south.labelled, south.open, [one.site for one in south.sites]) == (0, 1, ["south"])
    assert south.people == ()


def test_agreement_is_told_from_blind_opinions_alone(yard):
    ids = yard.bring_in(*[("north", f"{at}", "", None) for at in range(12)])
    words = ["pit" if at % 3 else "good" for at in range(12)]
    say(yard, ANN, *zip(ids, words, strict=True), act=1)
    say(yard, BOB, *zip(ids, ["good", *words[1:]], strict=True), act=2, kind="second")
    say(yard, CLEO, (ids[1], "good"), act=3)
    found = stats(yard, labelling_stats.agreed, who=ANN)
    assert (found.people, found.alpha.n, found.pairs[0].same) == (2, 12, 12)
    assert found.alpha.value == pytest.approx(1)
    assert stats(yard, labelling_stats.agreed, who=SOUTH).alpha.n == 0


def test_rounds_are_the_labels_and_the_mean_over_sites_of_what_the_gate_judged():
    world = loop_world.LoopWorld()
    wanted: list[tuple[int, float]] = []
    for count, least in ((6, 0.0), (4, 0.6), (6, 0.0), (8, 0.0)):
        world.label(count)
        bundle = world.candidate(least=least)
        world.tick()
        with world.store.read() as connection:
            verdict = verdicts.newest_on(connection, bundle).verdict
            order = ledger.order_of_bundle(connection, bundle)
            size = ledger.revision(connection, order.revision).count
        if not wanted:
            world.sign(bundle)
        sites = [one.candidate for one in verdict.sites if one.site in ("a", "b")]
        wanted.append((size, sum(sites) / len(sites)))
    with world.store.read() as connection:
        assert labelling_stats.rounds_of(connection, "parts") == wanted
        found = labelling_stats.is_enough(connection, "parts", target=0.99)
    assert len({size for size, _ in wanted}) == 4
    assert len({score for _, score in wanted}) == 2, "one of them is wrong about some good parts"
    assert found.labels == wanted[-1][0]
    assert found.gain is not None
    part = SiteVerdict(site="slice:night", result="passed", text="", candidate=0.0)
    assert labelling_stats.score_of(verdict.model_copy(update={"sites": (*verdict.sites, part)})) == wanted[-1][1]
    assert labelling_stats.score_of(verdict.model_copy(update={"sites": ()})) is None


def test_an_erasure_takes_opinions_and_claims_with_the_sample(yard):
    first, second = two(yard)
    say(yard, ANN, (first, "pit"), act=1)
    take(yard, BOB)
    with yard.hub.store.write() as connection:
        erasures.remove_samples(connection, [first, second])
    assert yard.rows(tables.opinions) == yard.rows(tables.label_claims) == []
    assert take_back(yard, ANN).left == 1
