"""Labelling over the API: the same acts as the console's, with the same rights."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

import loop_world
from edgewise.hub import people
from edgewise.hub.access import Person
from edgewise.wire import Feedback

BASE = "/api/v1/usecases/press/labelling"
BOSS = Person(name="admin", role="admin")


@pytest.fixture
def client(yard: Any) -> Any:
    with loop_world.served(yard.hub) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture
def ask(yard: Any, client: httpx.Client) -> Any:
    """Calls the API as somebody; a new token for each name."""
    tokens: dict[str, str] = {}

    def call(name: str, method: str, path: str, body: Any = None, *, code: int = 200, **who: Any) -> Any:
        if name not in tokens:
            fields: dict[str, Any] = {"name": name, "role": "labeller", "sites": None, "expires_at": None, **who}
            hub = yard.hub
            made = people.make_token(hub.store, by=BOSS, now=hub.now(), chance=hub.chance, limits=hub.limits, **fields)
            tokens[name] = made[0]
        headers = {"Authorization": f"Bearer {tokens[name]}"}
        answer = client.request(method, BASE + path, json=body, headers=headers)
        assert answer.status_code == code, answer.text
        return answer.json()

    return call


def an_act(number: int, kind: str = "label", **labels: str) -> dict[str, Any]:
    said = [{"sample": sample, "label": label} for sample, label in labels.items()]
    return {"act": f"{number:032x}", "kind": kind, "samples": said}


def test_a_sample_is_taken_labelled_disputed_settled_and_taken_back(yard, ask):
    (sample,) = yard.bring_in(("north", "a", "", None))
    (card,) = ask("ann", "POST", "/next", {"order": "newest"})
    assert (card["sample"], card["label"], card["suggestions"]) == (sample, None, [])
    assert ask("bob", "POST", "/next", {"order": "newest"}) == []
    assert ask("bob", "POST", "/acts", an_act(1, **{sample: "pit"}), code=409)["code"] == "claimed"
    assert ask("ann", "POST", "/keep", {"samples": [sample]}) == {"kept": 1}
    assert ask("ann", "POST", "/acts", an_act(2, **{sample: "pit"}))["changed"] == 1
    assert ask("ann", "POST", "/acts", an_act(2, **{sample: "pit"}))["again"]
    (blind,) = ask("bob", "POST", "/next", {"order": "second"})
    assert (blind["sample"], blind["label"]) == (sample, None)
    ask("bob", "POST", "/acts", an_act(3, "second", **{sample: "good"}))
    (open_one,) = ask("cleo", "POST", "/next", {"order": "adjudicate"})
    assert open_one["label"] == "pit"
    said = ask("cleo", "GET", f"/samples/{sample}/opinions")
    assert [(one["who"], one["label"], one["settled"]) for one in said] == [
        ("ann", "pit", True),
        ("bob", "good", False),
    ]
    ask("cleo", "POST", "/acts", an_act(4, "settle", **{sample: "good"}))
    assert ask("cleo", "GET", "/queue?order=adjudicate") == []
    assert ask("cleo", "POST", "/undo") == {"kind": "settle", "samples": [sample], "left": 0}
    assert ask("dan", "POST", "/undo", code=409)["code"] == "nothing_to_undo"
    assert ask("ann", "GET", "/progress")["disputed"] == 1


def test_a_label_changed_meanwhile_and_an_unknown_thing_have_their_codes(yard, ask):
    (sample,) = yard.bring_in(("north", "a", "", "pit"))
    body = an_act(1, **{sample: "good"})
    body["samples"][0]["seen"] = ""
    assert ask("ann", "POST", "/acts", body, code=409)["code"] == "labelled_meanwhile"
    assert ask("ann", "POST", "/acts", an_act(1, **{"0" * 32: "good"}), code=404)["code"] == "sample_unknown"
    answer = {"act": "0" * 32, "verdict": "right"}
    assert ask("ann", "POST", f"/feedback/{'0' * 32}/answer", answer, code=404)["code"] == "feedback_unknown"
    assert ask("ann", "POST", "/acts", an_act(1, "settle", **{sample: "good"}), code=409)["code"] == "no_dispute"


def test_an_operators_word_is_listed_and_answered(yard, ask):
    device = yard.enrol("cam")
    told = Feedback(id=device.id(), frame="f", site="north", given_at=yard.clock.now(), verdict="missed", note="a dent")
    device.send(device.segment(1, told, record_class="feedback"))
    (word,) = ask("ann", "GET", "/feedback?answered=false")
    assert (word["verdict"], word["note"], word["sample"]) == ("missed", "a dent", None)
    ask("ann", "POST", f"/feedback/{word['id']}/answer", {"act": "1" * 32, "verdict": "unclear", "note": "not kept"})
    (word,) = ask("ann", "GET", "/feedback?answered=true")
    assert (word["answer"], word["answered_by"]) == ("unclear", "ann")
    assert ask("ann", "GET", "/progress")["unanswered"] == 0


def test_agreement_and_enough_say_what_is_missing(ask):
    assert "10 or more are needed" in ask("ann", "GET", "/agreement")["text"]
    found = ask("ann", "GET", "/enough?target=0.9")
    assert (found["word"], found["gain"], found["need"]) == ("cannot tell", None, None)
    assert "0 rounds" in found["text"]


def test_who_may_only_look_changes_nothing_and_who_is_of_one_site_sees_that_one(yard, ask):
    north, south = yard.bring_in(("north", "a", "", None), ("south", "b", "", None))
    for path in ("/acts", "/next", "/keep", "/undo"):
        ask("vera", "POST", path, {}, code=403, role="viewer")
    assert len(ask("vera", "GET", "/queue")) == 2
    assert [one["sample"] for one in ask("sue", "GET", "/queue", sites=["south"])] == [south]
    assert [one["sample"] for one in ask("sue", "POST", "/next", {"limit": 5})] == [south]
    ask("sue", "POST", "/acts", an_act(1, **{north: "pit"}), code=403)
    ask("sue", "GET", f"/samples/{north}/opinions", code=403)
    ask("sue", "POST", "/next", {"sample": north}, code=403)
    ask("sue", "GET", "/enough", code=403)
    assert [one["site"] for one in ask("sue", "GET", "/progress")["sites"]] == ["south"]
