"""The console's pages through the whole application."""

from __future__ import annotations

import importlib.util
import re
import sys
import uuid
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgewise.hub import people, rollouts
from edgewise.hub.access import Person
from edgewise.hub.console.pages import STATIC, STATIC_FILES
from edgewise.hub.store import audit, labels, samples
from edgewise.hub.store import rollouts as rollout_rows

_SPEC = importlib.util.spec_from_file_location("loop_world", Path(__file__).parents[1] / "loop_world.py")
assert _SPEC is not None
assert _SPEC.loader is not None
loop_world = importlib.util.module_from_spec(_SPEC)
sys.modules["loop_world"] = loop_world
_SPEC.loader.exec_module(loop_world)
LoopWorld, a_usecase = loop_world.LoopWorld, loop_world.a_usecase


@pytest.fixture
def world() -> Any:
    return LoopWorld()


@pytest.fixture
def stranger(world: Any) -> Any:
    """Somebody without a token."""
    with loop_world.served(world.hub) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture
def client(world: Any, stranger: httpx.Client) -> httpx.Client:
    """Somebody who signed in as administrator."""
    stranger.get("/", params={"token": world.hub.tokens.text("admin")})
    return stranger


def origin(client: httpx.Client) -> str:
    return str(client.base_url).rstrip("/")


class Outline(HTMLParser):
    """Checks that every element is closed, and remembers what a page is made of."""

    VOID = frozenset({"meta", "link", "input", "br", "img", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"closed without being opened: {tag}"
        assert self.open.pop() == tag


def page(client: httpx.Client, path: str, *, status: int = 200) -> str:
    answer = client.get(path, follow_redirects=True)
    assert answer.status_code == status, answer.text
    Outline(answer.text)
    return answer.text


def busy(world: Any) -> str:
    """A release on its way, with a pair that was labelled; comes back with the rollout's id."""
    world.label(10)
    for name, site in (("d1", "a"), ("d2", "b")):
        world.enrol(name, site=site)
        world.hear(name)
    first = world.candidate()
    world.tick()
    world.sign(first)
    for _ in range(12):
        world.tick(15)
        world.hear("d1")
        world.hear("d2")
    bad = world.candidate(right=False)
    world.tick()
    world.sign(bad, override="drill")
    hub = world.hub
    row = rollouts.create(world.store, "parts@2", {}, who="ann", why="drill", now=hub.now(), chance=hub.chance)
    world.tick()
    world.hear("d1")
    world.pair("d1", row.id, ours="ok", theirs="crack", truth="crack", candidate=bad, champion=first)
    world.tick()
    return str(row.id)


def waiting(world: Any, count: int = 3) -> list[str]:
    """Samples of a device that wait for a label."""
    world.enrol("cam")
    world.hear("cam")
    made = []
    for _ in range(count):
        world.pair("cam", "0" * 32, ours="ok", theirs="crack", truth="crack", candidate="1" * 64, champion="2" * 64)
    with world.store.write() as connection:
        connection.exec_driver_sql("UPDATE samples SET label = NULL, labelled_at = NULL WHERE device = 'cam'")
        made = [row.id for row in samples.unlabelled(connection, "parts", limit=count)]
    return made


def say(client: httpx.Client, sample: str | list[str], **more: Any) -> httpx.Response:
    """A form of the labelling page, as a browser sends it; `headers` come on top."""
    headers = {"origin": origin(client), **more.pop("headers", {})}
    body = {"act": uuid.uuid4().hex, "sample": sample, "seen": "=", **more}
    return client.post("/label/parts/say", data=body, headers=headers)


def label_of(world: Any, sample: str) -> str | None:
    with world.store.read() as connection:
        row = samples.get(connection, sample)
    assert row is not None
    return row.label


def test_without_a_token_there_is_only_the_door(stranger: httpx.Client, world: Any) -> None:
    client = stranger
    for path in ("/", "/labelling", "/console/live", "/rollouts/x", "/releases/x"):
        assert "Sign in" in page(client, path, status=401)
    assert "not known" in page(client, "/?token=wrong", status=401)
    answer = client.get("/", params={"token": world.hub.tokens.text("worker")})
    assert (answer.status_code, "edgewise_session" in answer.cookies) == (403, False)
    assert "the console is for people" in answer.text


def as_somebody(client: httpx.Client, world: Any, role: str, sites: list[str] | None = None) -> None:
    """Sign in as somebody of this role and these sites."""
    hub, admin = world.hub, Person(name="admin", role="admin")
    who = {"name": f"some-{role}", "role": role, "sites": sites, "expires_at": None, "by": admin}
    token, _ = people.make_token(hub.store, now=hub.now(), chance=hub.chance, limits=hub.limits, **who)
    answer = client.post("/login", data={"token": token}, headers={"origin": origin(client)})
    assert answer.status_code == 200, answer.text


def test_a_token_is_taken_by_the_form_and_a_form_of_another_site_is_not(stranger: httpx.Client, world: Any) -> None:
    as_somebody(stranger, world, "viewer", ["a"])
    assert "some-viewer · viewer · a" in page(stranger, "/")
    stranger.cookies.clear()
    wrong = {"token": world.hub.tokens.text("admin")}
    assert stranger.post("/login", data=wrong, headers={"origin": "http://evil.example"}).status_code == 403
    assert stranger.post("/login", data={"token": "ew_x"}, headers={"origin": origin(stranger)}).status_code == 401
    assert stranger.get("/").status_code == 401


def test_signing_out_ends_the_session_in_the_hub_too(client: httpx.Client) -> None:
    secret = client.cookies["edgewise_session"]
    assert client.post("/logout", headers={"origin": "http://evil.example"}).status_code == 403
    assert client.get("/").status_code == 200
    assert client.post("/logout", headers={"origin": origin(client)}).headers["location"] == "/login"
    assert client.get("/", headers={"Cookie": f"edgewise_session={secret}"}).status_code == 401


def test_what_a_role_may_not_do_is_not_offered_and_refused_when_asked(stranger: httpx.Client, world: Any) -> None:
    rollout = busy(world)
    sample = waiting(world, 3)[0]
    offers = {"/labelling": 'data-key="1"', f"/rollouts/{rollout}": "Take it back"}
    for role, seen in (("viewer", set()), ("labeller", {"/labelling"}), ("operator", set(offers))):
        stranger.cookies.clear()
        as_somebody(stranger, world, role)
        assert {path for path, mark in offers.items() if mark in page(stranger, path)} == seen, role
        if "/labelling" not in seen:
            answer = say(stranger, sample, label="ok")
            assert (answer.status_code, label_of(world, sample)) == (403, None)
            assert "needs role labeller" in answer.text
        if f"/rollouts/{rollout}" not in seen:
            assert stranger.post(f"/rollouts/{rollout}/pause", headers={"origin": origin(stranger)}).status_code == 403


def test_somebody_of_one_site_sees_that_site_alone(stranger: httpx.Client, world: Any) -> None:
    rollout = busy(world)
    sample = waiting(world, 1)[0]
    as_somebody(stranger, world, "operator", ["b"])
    text = page(stranger, "/")
    assert "d2" in text
    assert not re.search(r">d1<|>cam<|/rollouts/", text)
    assert "No sample waits" in page(stranger, "/labelling")
    for path in (f"/rollouts/{rollout}", f"/labelling?sample={sample}"):
        assert "some-operator (operator) is of site b" in page(stranger, path, status=403)
    assert ">d1<" not in page(stranger, "/releases/parts@1")
    assert say(stranger, sample, label="ok").status_code == 403
    assert stranger.post(f"/rollouts/{rollout}/pause", headers={"origin": origin(stranger)}).status_code == 403
    assert label_of(world, sample) is None


def test_a_rollout_that_waits_for_approval_begins_with_an_approvers_word(stranger: httpx.Client, world: Any) -> None:
    world.label(10)
    first = world.candidate()
    world.tick()
    world.sign(first)
    hub = world.hub
    with world.store.write() as connection:
        connection.exec_driver_sql("DELETE FROM rollouts")
    wish: dict[str, Any] = {"who": "ann", "why": "test", "now": hub.now(), "chance": hub.chance}
    row = rollouts.create(world.store, "parts@1", {"approval": "person"}, **wish)
    for role, state in (("operator", "waiting"), ("approver", "running")):
        stranger.cookies.clear()
        as_somebody(stranger, world, role)
        assert ("waits for an approver" in page(stranger, f"/rollouts/{row.id}")) == (role == "operator")
        stranger.post(f"/rollouts/{row.id}/approve", headers={"origin": origin(stranger)})
        with world.store.read() as connection:
            assert rollouts.need(connection, row.id).state == state
    with world.store.read() as connection:
        entries = audit.page(connection, limit=1000)
    assert [item["actor"] for item in entries if item["action"] == "rollout.running"] == ["some-approver"]


def test_a_token_becomes_a_cookie_that_scripts_and_other_sites_do_not_get(stranger: httpx.Client, world: Any) -> None:
    answer = stranger.get("/", params={"token": world.hub.tokens.text("admin")})
    cookie = answer.headers["set-cookie"]
    assert "httponly" in cookie.lower()
    assert "samesite=strict" in cookie.lower()
    assert world.hub.tokens.text("admin") not in answer.text + cookie, "the cookie is a session, never the token"


def test_an_empty_hub_says_how_to_start(client: httpx.Client, world: Any) -> None:
    with world.store.write() as connection:
        connection.exec_driver_sql("DELETE FROM usecases")
    assert "edgewise usecase apply" in page(client, "/")
    assert "nothing to label" in page(client, "/labelling")


def test_a_new_use_case_says_what_to_do_next(client: httpx.Client) -> None:
    text = page(client, "/")
    for hint in (
        "edgewise hub enrol-token --use-case parts --site a",
        "import labelled samples",
        "No candidate was judged yet",
    ):
        assert hint in text


def test_the_overview_shows_the_loop_with_live_numbers(client: httpx.Client, world: Any) -> None:
    rollout = busy(world)
    text = page(client, "/")
    for word in ("parts@1", "parts@2", "d1", "d2", "drill", f"/rollouts/{rollout}", "passed", "failed", "with shadow"):
        assert word in text, word
    assert page(client, "/console/live").count("<h2") == 5


def test_pages_of_a_release_and_a_rollout_render(client: httpx.Client, world: Any) -> None:
    rollout = busy(world)
    text = page(client, f"/rollouts/{rollout}")
    assert "Take it back" in text
    assert "data-chart" in text
    assert "signed against the gate" in page(client, "/releases/parts@2").lower()
    assert "there is no release" in page(client, "/releases/parts@99", status=404)
    assert "there is no rollout" in page(client, "/rollouts/nothing", status=404)


def test_a_rollout_is_paused_resumed_and_taken_back_by_forms(client: httpx.Client, world: Any) -> None:
    rollout = busy(world)
    headers = {"origin": origin(client)}
    for act, state in (("pause", "paused"), ("resume", "running")):
        answer = client.post(f"/rollouts/{rollout}/{act}", headers=headers)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/rollouts/{rollout}")
        with world.store.read() as connection:
            assert rollouts.need(connection, rollout).state == state
    assert client.post(f"/rollouts/{rollout}/revert", headers=headers).status_code == 422
    client.post(f"/rollouts/{rollout}/revert", data={"reason": "cracks were missed"}, headers=headers)
    with world.store.read() as connection:
        row = rollout_rows.get(connection, rollout)
    assert row is not None
    assert (row.state, row.why) == ("reverting", "cracks were missed")


def test_a_form_of_another_site_changes_nothing(client: httpx.Client, world: Any) -> None:
    sample = waiting(world, 1)[0]
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}):
        assert say(client, sample, label="crack", headers=headers).status_code == 403
        assert client.post("/label/parts/undo", headers=headers).status_code == 403
    for headers in ({"origin": "http://evil.example"}, {}):
        assert client.post("/rollouts/x/pause", headers=headers).status_code == 403
    assert label_of(world, sample) is None


def test_labelling_shows_the_most_urgent_sample_with_the_devices_word(client: httpx.Client, world: Any) -> None:
    sample = waiting(world)[0]
    text = page(client, "/labelling")
    assert f'value="{sample}"' in text
    assert "disagreement" in text
    assert "the other release says <strong>crack</strong>" in text
    assert 'data-key="1"' in text
    assert 'data-key="Enter"' in text


def test_a_label_without_scripts_leads_to_the_next_sample_and_is_taken_back(client: httpx.Client, world: Any) -> None:
    first, second = waiting(world, 2)
    answer = say(client, first, label="crack")
    assert answer.status_code == 303
    assert label_of(world, first) == "crack"
    text = page(client, answer.headers["location"])
    assert f'value="{second}"' in text
    assert 'action="/label/parts/undo"' in text
    answer = client.post("/label/parts/undo", headers={"origin": origin(client)})
    assert f'value="{first}"' in answer.text
    assert "Your last word is taken back." in answer.text
    assert label_of(world, first) is None
    assert client.post("/label/parts/undo", headers={"origin": origin(client)}).status_code == 409


def test_a_label_with_htmx_answers_with_the_next_card_alone(client: httpx.Client, world: Any) -> None:
    first, second = waiting(world, 2)
    answer = say(client, first, label="ok", headers={"hx-request": "true"})
    assert answer.status_code == 200
    assert answer.text.lstrip().startswith('<section id="card"')
    assert f'value="{second}"' in answer.text
    Outline(answer.text)
    answer = say(client, first, label="crack", headers={"hx-request": "true"})
    assert answer.status_code == 200
    assert "look again" in answer.text
    assert say(client, first, label="crack").status_code == 409
    assert label_of(world, first) == "ok"


def test_a_form_that_is_sent_twice_labels_once(client: httpx.Client, world: Any) -> None:
    first, _ = waiting(world, 2)
    for label in ("ok", "crack"):
        assert say(client, first, label=label, act="7" * 32, seen="").status_code == 303
    assert label_of(world, first) == "ok"


def test_what_was_taken_out_of_a_group_is_skipped_and_stays_open(client: httpx.Client, world: Any) -> None:
    first, second, third = waiting(world, 3)
    fields: dict[str, Any] = {"kind": "bulk", "shown": [first, second, third], "order": "cluster", "seen": ""}
    answer = say(client, [first, third], label="crack", **fields)
    assert answer.headers["location"] == f"/label/parts?order=cluster&skip={second}"
    assert [label_of(world, one) for one in (first, second, third)] == ["crack", None, "crack"]


@pytest.mark.parametrize(
    "fields",
    [
        {"act": "x"},
        {"kind": "answer2"},
        {"annotation": "{"},
        {"annotation": '{"boxes": [{"label": "x", "x1": 2, "y1": 0, "x2": 3, "y2": 1}]}'},
        {"label": ""},
        {"label": "x" * 201},
        {"sample": ["0" * 32] * 101},
    ],
)
def test_a_form_that_is_wrong_changes_nothing(client: httpx.Client, world: Any, fields: dict[str, Any]) -> None:
    first, _ = waiting(world, 2)
    answer = say(client, **{"sample": first, "label": "ok", **fields})
    assert answer.status_code == 422
    assert label_of(world, first) is None


def test_a_new_class_is_named_once_and_offered_from_then_on(client: httpx.Client, world: Any) -> None:
    first, _second = waiting(world, 2)
    say(client, first, label="ok", new_label=" dent ")
    assert label_of(world, first) == "dent"
    with world.store.read() as connection:
        assert "dent" in labels.known(connection, "parts")
    assert 'value="dent"' in page(client, "/labelling")


def test_skipping_shows_another_sample_and_the_end_says_what_to_do(client: httpx.Client, world: Any) -> None:
    first, second = waiting(world, 2)
    assert f'value="{second}"' in page(client, f"/labelling?skip={first}")
    assert "Only skipped ones are left" in page(client, f"/labelling?skip={first},{second}")
    for sample in (first, second):
        say(client, sample, label="ok")
    assert "All done" in page(client, "/labelling")


def test_what_people_write_is_shown_and_never_run(client: httpx.Client, world: Any) -> None:
    first, _ = waiting(world, 2)
    nasty = "<script>alert(1)</script>"
    say(client, first, new_label=nasty)
    for path in ("/labelling", f"/labelling?sample={first}", "/label/parts/progress"):
        text = page(client, path)
        assert nasty not in text
        assert "&lt;script&gt;" in text


def test_pages_load_everything_from_the_hub_itself(client: httpx.Client, world: Any) -> None:
    busy(world)
    for path in ("/", "/labelling", "/label/parts/progress", "/label/parts/words", "/releases/parts@1"):
        answer = client.get(path, follow_redirects=True)
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert not re.search(r"(src|href)=\"(https?:)?//", answer.text)
        assert "<style" not in answer.text
        assert not re.search(r"<script(?![^>]*src=)", answer.text)
        for tag, attributes in Outline(answer.text).tags:
            assert "style" not in attributes, f"{tag} has a style that the policy forbids"
            assert not any(name.startswith("on") for name in attributes)


def test_static_files_are_a_closed_list(client: httpx.Client) -> None:
    for name in STATIC_FILES:
        answer = client.get(f"/static/{name}")
        assert answer.status_code == 200
        assert len(answer.content) > 500
    for name in ("../pages.py", "vendor/../../pages.py", "nothing.js", "%2e%2e/pages.py"):
        assert client.get(f"/static/{name}").status_code == 404
    shipped = {str(path.relative_to(Path(str(STATIC)))) for path in Path(str(STATIC)).rglob("*.*")}
    assert {name for name in shipped if not name.endswith("LICENSE.txt")} == set(STATIC_FILES)


def test_every_field_has_a_label_and_every_picture_a_text(client: httpx.Client, world: Any) -> None:
    busy(world)
    waiting(world, 1)
    for path in ("/", "/labelling", "/label/parts/progress", "/label/parts/words", "/?token=wrong"):
        tags = Outline(client.get(path, follow_redirects=True).text).tags
        named = {attributes.get("for") for tag, attributes in tags if tag == "label"}
        for tag, attributes in tags:
            if tag in ("input", "select") and attributes.get("type") != "hidden":
                assert attributes.get("id") in named, attributes
            if tag == "img":
                assert attributes.get("alt")
        assert [tag for tag, _ in tags].count("h1") == 1
        assert ("html", {"lang": "en"}) in tags
