"""Every route for every role, made from the routes themselves; people of some sites; what the audit log says."""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.routing import Route

from edgewise.hub import Hub, HubConfig, create_app, people
from edgewise.hub.access import MEANS, PEOPLE, PERMITTED, ROLES, Action, Person, Refused, roles_with
from edgewise.hub.api.auth import COOKIE, Needs
from edgewise.hub.api.courier import IMPORT_NEEDS
from edgewise.hub.api.device import GET_NEEDS, PUT_NEEDS, RawRoute
from edgewise.hub.attempts import Attempts, TooMany
from edgewise.hub.store import tables
from edgewise.ports import listen
from edgewise.wire import NotTrusted, NotValid, digest

API = "/api/v1"
ROOT = Path(__file__).resolve().parents[2]
# Routes that open to everybody, on purpose.
OPEN = {
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/version"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/static/{path:path}"),
    ("GET", "/login"),
    ("POST", "/login"),
    ("GET", "/login/oidc"),
    ("GET", "/login/oidc/callback"),
    ("GET", "/openapi-devices.json"),
}
# Raw routes, which devices have at their own address too.
RAW = {
    ("GET", f"{API}/blobs/{{digest}}"): GET_NEEDS,
    ("HEAD", f"{API}/blobs/{{digest}}"): GET_NEEDS,
    ("PUT", f"{API}/blobs/{{digest}}"): PUT_NEEDS,
    ("GET", f"{API}/tuf/{{path:path}}"): GET_NEEDS,
    ("GET", f"{API}/bundles/{{digest}}/manifest"): GET_NEEDS,
    ("POST", f"{API}/courier/import"): IMPORT_NEEDS,
}


def declared(app: FastAPI) -> dict[tuple[str, str], tuple[Action, ...] | None]:
    """Every route of the application with the actions that open it; None for one that says nothing."""
    found: dict[tuple[str, str], tuple[Action, ...] | None] = {}
    for route in app.routes:
        contexts = [route] if isinstance(route, Route) else list(route.effective_route_contexts())
        for context in contexts:
            raw = isinstance(route, Route)
            named = [] if raw else _actions(context.dependant)
            for method in sorted(context.methods):
                if raw and method == "HEAD" and "blobs" not in context.path:
                    continue  # added by the framework to every GET
                found[method, context.path] = named[0] if named else None
                assert not raw or isinstance(route.endpoint, RawRoute) or context.path == "/openapi.json"
    return found


def _actions(dependant: Any) -> list[tuple[Action, ...]]:
    found = [dependant.call.actions] if isinstance(dependant.call, Needs) else []
    return found + [actions for inner in dependant.dependencies for actions in _actions(inner)]


ROUTES = declared(create_app(Hub(HubConfig())))
GUARDED = {**{key: needed for key, needed in ROUTES.items() if needed is not None}, **RAW}


@contextlib.contextmanager
def served(hub: Hub) -> Iterator[httpx.Client]:
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(create_app(hub), log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


@pytest.fixture
def client(yard):
    with served(yard.hub) as held:
        yield held


BOSS = Person(name="admin", role="admin")


def give(yard, role: str, sites: list[str] | None = None, *, name: str = "", by: Person = BOSS, **more: Any) -> str:
    fields = {"name": name or f"the-{role}", "role": role, "sites": sites, "expires_at": None} | more
    hub = yard.hub
    return people.make_token(hub.store, by=by, now=hub.now(), chance=hub.chance, limits=hub.limits, **fields)[0]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def entries(yard, action: str) -> list[Any]:
    return [row for row in yard.rows(tables.audit) if row["action"] == action]


# -- the table -----------------------------------------------------------------------------------------------------


def test_every_route_says_who_may_call_it_or_is_open_on_purpose():
    silent = {key for key, needed in ROUTES.items() if needed is None}
    assert silent == OPEN | set(RAW), "a new route must name its action with `needs`, or stand in OPEN"
    assert len(GUARDED) > 45


def test_no_change_and_nothing_guarded_is_open_to_a_role_that_only_looks():
    """The next test takes each route's own word; this one holds that word down where a slip would hurt."""
    looks = {Action.READ, Action.WATCH}
    # A question to the lake is too long for an address, so it is a POST; it changes nothing.
    asks = {("POST", "/logout"), ("POST", API + "/lake/query")}
    changes = {key for key in GUARDED if key[0] not in ("GET", "HEAD")} - asks
    assert all(looks.isdisjoint(GUARDED[key]) for key in changes)
    held = {
        Action.AUDIT: ["GET /audit", "GET /audit/verify"],
        Action.SIGN: ["GET /evaluation", "GET /scorecards/{digest}", "GET /signing", "POST /trust/publish"],
        Action.TRAIN: ["GET /revisions/{digest}", "POST /orders/claim", "POST /bundles"],
        Action.ADMINISTER: [
            "POST /usecases",
            "POST /trust/online-keys/{name}",
            "GET /tokens",
            "POST /tokens",
            "POST /tokens/{token}/revoke",
        ],
        Action.OPERATE: ["POST /rollouts", "POST /rollouts/{rollout}/revert", "POST /devices/{device}/shut-out"],
    }
    for action, routes in held.items():
        for method, path in (route.split() for route in routes):
            assert GUARDED[method, API + path] == (action,), path


def test_the_table_is_whole_and_each_role_of_people_has_what_the_one_before_has():
    assert set(PERMITTED) == set(ROLES)
    assert set(MEANS) == set(Action)
    for less, more in itertools.pairwise(PEOPLE):
        assert PERMITTED[less] < PERMITTED[more]
    assert all(roles_with([action]) for action in Action)


def test_the_documented_table_is_the_one_in_the_code():
    text = (ROOT / "docs" / "hub.md").read_text()
    head = "| action | opens | " + " | ".join(ROLES) + " |"
    assert head in text
    for action in Action:
        marks = ["yes" if action in PERMITTED[role] else "–" for role in ROLES]
        assert f"| {action.value} | {MEANS[action]} | {' | '.join(marks)} |" in text


@pytest.mark.parametrize("role", ROLES)
def test_each_role_is_let_into_its_own_routes_and_no_other(yard, client, role):
    """Paths lead to nothing and bodies are empty: who is let in gets 200, 404 or 422, who is not gets 403."""
    headers = bearer(give(yard, role))
    session = people.open_session if role in PEOPLE else None
    if session is not None:
        hub = yard.hub
        person = people.by_token(hub.store, headers["Authorization"][7:], now=hub.now(), limits=hub.limits)
        text = session(hub.store, person, how="test", now=hub.now(), chance=hub.chance, limits=hub.limits)
    refusals = 0
    for (method, path), needed in GUARDED.items():
        if path == "/logout":
            continue  # it would end the session that the pages are asked with
        # A name that is there neither as a digest nor otherwise.
        asked = re.sub(r"\{\w+\}", "0" * 64, path) + "?use_case=press"
        if path.startswith(API):
            answer = client.request(method, asked, headers=headers)
        elif role in PEOPLE:
            cookie = {"Cookie": f"{COOKIE}={text}", "Origin": str(client.base_url).rstrip("/")}
            answer = client.request(method, asked, headers=cookie)
        else:
            continue  # machines have no session; another test says so
        allowed = not PERMITTED[role].isdisjoint(needed)
        # 403 with another code than the role's is an answer of the route itself, such as a blob with a wrong digest.
        problem = answer.headers.get("content-type", "").startswith("application/problem") and method != "HEAD"
        of_route = problem and answer.json()["code"] != "role_wrong"
        let_in = answer.status_code != 401 and (answer.status_code != 403 or of_route)
        assert let_in == allowed, f"{role} got {answer.status_code} from {method} {path}: {answer.text[:200]}"
        assert answer.status_code < 500, f"{method} {path}: {answer.text[:300]}"
        refusals += not allowed
    noted = entries(yard, "access.refused")
    assert len(noted) == min(refusals, yard.hub.limits.refusals_max)
    assert {row["actor"] for row in noted} <= {f"the-{role}"}


def test_nobody_is_let_in_without_a_token(yard, client):
    for (method, path), _needed in GUARDED.items():
        answer = client.request(method, re.sub(r"\{\w+\}", "0" * 64, path))
        assert answer.status_code == 401, f"{method} {path}"
    assert entries(yard, "access.failed") == []


def test_file_tokens_have_the_roles_of_their_names(yard, client):
    for role in ("admin", "worker", "signer"):
        found = client.get(f"{API}/me", headers=bearer(yard.hub.tokens.text(role))).json()
        assert (found["name"], found["role"], found["sites"]) == (role, role, None)


# -- tokens ----------------------------------------------------------------------------------------------------------


def test_a_token_is_shown_once_kept_as_a_hash_and_named_in_the_audit_log(yard, client):
    admin = bearer(yard.hub.tokens.text("admin"))
    wish = {"name": "ann", "role": "operator", "sites": ["north"]}
    made = client.post(f"{API}/tokens", json=wish, headers=admin).json()
    token = made.pop("token")
    (listed,) = client.get(f"{API}/tokens", headers=admin).json()
    assert listed == made
    assert token not in str(yard.rows(tables.tokens)) + str(yard.rows(tables.audit))
    me = client.get(f"{API}/me", headers=bearer(token)).json()
    assert (me["name"], me["role"], me["sites"]) == ("ann", "operator", ["north"])
    (entry,) = entries(yard, "people_token.made")
    assert (entry["actor"], entry["data"]["owner"], entry["data"]["role"]) == ("admin", "ann", "operator")


def test_a_tokens_last_use_is_written_down_once_an_hour(yard, client):
    headers = bearer(give(yard, "viewer"))
    yard.clock.advance(1800)
    client.get(f"{API}/me", headers=headers)
    (row,) = yard.rows(tables.tokens)
    first = row["used_at"]
    assert (first.minute, first.second) == (0, 0)
    yard.clock.advance(600)
    client.get(f"{API}/me", headers=headers)
    assert yard.rows(tables.tokens)[0]["used_at"] == first
    yard.clock.advance(7200)
    client.get(f"{API}/me", headers=headers)
    assert yard.rows(tables.tokens)[0]["used_at"] > first


def test_a_revoked_or_ended_token_and_its_session_are_refused(yard, client):
    admin = bearer(yard.hub.tokens.text("admin"))
    short = give(yard, "viewer", name="short", expires_at=yard.hub.now() + timedelta(hours=1))
    token = give(yard, "viewer", name="ann")
    client.get("/", params={"token": token})
    assert client.get("/").status_code == 200
    row = next(row for row in yard.rows(tables.tokens) if row["name"] == "ann")
    for _ in range(2):
        assert client.post(f"{API}/tokens/{row['id']}/revoke", headers=admin).json()["revoked_at"] is not None
    assert len(entries(yard, "people_token.revoked")) == 1
    answer = client.get(f"{API}/me", headers=bearer(token))
    assert (answer.status_code, answer.json()["code"]) == (401, "token_revoked")
    assert client.get("/").status_code == 401
    assert client.get(f"{API}/me", headers=bearer(short)).status_code == 200
    yard.clock.advance(3601)
    assert client.get(f"{API}/me", headers=bearer(short)).json()["code"] == "token_ended"


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"name": "admin"}, "cannot own a token"),
        ({"name": "controller"}, "cannot own a token"),
        ({"name": "oidc:ann"}, "cannot own a token"),
        ({"name": "device press-4"}, "cannot own a token"),
        ({"role": "worker", "sites": ["north"]}, "serves whole use cases"),
        ({"sites": []}, "of no site"),
        ({"expires_at": timedelta(seconds=-1)}, "makes no sense"),
        ({"expires_at": timedelta(days=9999)}, "makes no sense"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_token_that_makes_no_sense_is_refused_with_its_reason(yard, wish, says):
    if "expires_at" in wish:
        wish = {"expires_at": yard.hub.now() + wish["expires_at"]}
    with pytest.raises(NotValid, match=says):
        give(yard, wish.pop("role", "viewer"), **{"name": "ann", **wish})
    assert yard.rows(tables.tokens) == []


def test_an_administrator_of_one_site_gives_and_sees_only_tokens_of_that_site(yard, client):
    give(yard, "viewer", name="everywhere")
    north = give(yard, "admin", ["north"], name="nora")
    headers = bearer(north)
    for sites in (None, ["north", "south"]):
        wish = {"name": "x", "role": "viewer"} | ({} if sites is None else {"sites": sites})
        answer = client.post(f"{API}/tokens", json=wish, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "site_wrong")
    assert client.post(f"{API}/tokens", json={"name": "x", "role": "viewer", "sites": ["north"]}, headers=headers)
    assert {row["name"] for row in client.get(f"{API}/tokens", headers=headers).json()} == {"x", "nora"}
    other = next(row["id"] for row in yard.rows(tables.tokens) if row["name"] == "everywhere")
    assert client.post(f"{API}/tokens/{other}/revoke", headers=headers).status_code == 403


# -- sites -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_sites(yard):
    """A device and samples at each of two sites, and one use case that only the north has."""
    for name, site in (("n1", "north"), ("s1", "south")):
        device = yard.enrol(name, site=site)
        device.send(device.segment(1, device.sample()), device.segment(2, device.telemetry()))
    yard.bring_in(("north", "a", "", None), ("south", "b", "", None))
    return yard


def test_a_person_of_one_site_sees_only_its_devices_samples_and_sums(two_sites, client):
    headers = bearer(give(two_sites, "operator", ["north"]))

    def get(path: str) -> Any:
        answer = client.get(API + path, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    assert {row["site"] for row in get("/devices")} == {"north"}
    assert get("/devices?site=south") == []
    assert {row["site"] for row in get("/samples")["samples"]} == {"north"}
    assert {row["site"] for row in get("/labels/next?use_case=press")} == {"north"}
    assert {row["site"] for row in get("/telemetry?use_case=press")} == {"north"}
    (press,) = get("/overview")["use_cases"]
    assert sum(press["devices_by_phase"].values()) == 1
    assert {row["site"] for row in press["labels"]} == {"north"}
    assert "rollouts" not in press
    assert [row["name"] for row in get("/usecases")] == ["press"]


def direct_calls(yard) -> list[tuple[str, str, Any]]:
    """Everything that a person of the north asks of the south, or of what concerns both."""
    south = next(row for row in yard.rows(tables.samples) if row["site"] == "south")
    moment = "2026-03-01T00:00:00Z"
    sample = {"use_case": "press", "site": "south", "frame": "x", "blob": south["blob"], "taken_at": moment}
    return [
        ("GET", "/devices/s1", None),
        ("GET", "/devices/s1/records", None),
        ("POST", "/devices/s1/shut-out", {"reason": "test"}),
        ("POST", "/enrolment-tokens", {"site": "south", "use_case": "press"}),
        ("GET", f"/samples/{south['id']}", None),
        ("POST", "/labels", {"labels": [{"sample": south["id"], "label": "pit"}]}),
        ("POST", "/samples/import", sample),
        ("GET", f"/blobs/{south['blob']}", None),
        ("POST", "/orders", {"use_case": "press"}),
        ("GET", "/evaluation?use_case=press", None),
        ("GET", "/audit", None),
        ("GET", "/audit/verify", None),
    ]


def test_what_is_asked_of_another_site_is_refused_with_the_site_and_audited_by_name(two_sites, client):
    headers = bearer(give(two_sites, "approver", ["north"], name="nora"))
    before = len(entries(two_sites, "access.refused"))
    calls = direct_calls(two_sites)
    for method, path, body in calls:
        answer = client.request(method, API + path, json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "site_wrong"), f"{method} {path}: {answer.text}"
        detail = answer.json()["detail"]
        assert "nora (approver) is of site north" in detail
        assert "south" in detail or "all sites" in detail
    noted = entries(two_sites, "access.refused")[before:]
    assert len(noted) == len(calls)
    assert {(row["actor"], row["data"]["code"]) for row in noted} == {("nora", "site_wrong")}
    assert {row["subject"].split("?")[0] for row in noted} >= {f"GET {API}/devices/s1", f"POST {API}/labels"}
    assert all(row["label"] is None for row in two_sites.rows(tables.samples))
    assert all(row["revoked_at"] is None for row in two_sites.rows(tables.devices))


def test_the_same_calls_are_open_to_somebody_of_both_sites_or_of_all(two_sites, client):
    for sites in (["north", "south"], None):
        headers = bearer(give(two_sites, "approver", sites))
        for method, path, body in direct_calls(two_sites):
            answer = client.request(method, API + path, json=body, headers=headers)
            everywhere = path.startswith("/audit") and sites is not None
            assert (answer.status_code == 403) == everywhere, f"{method} {path}: {answer.text}"


def test_a_person_of_one_site_does_their_own_work_there(two_sites, client):
    headers = bearer(give(two_sites, "operator", ["north"], name="nora"))
    north = next(row for row in two_sites.rows(tables.samples) if row["site"] == "north")
    body = {"labels": [{"sample": north["id"], "label": "pit"}]}
    assert client.post(f"{API}/labels", json=body, headers=headers).json()["accepted"] == 1
    assert client.get(f"{API}/blobs/{north['blob']}", headers=headers).status_code == 200
    assert client.post(f"{API}/devices/n1/shut-out", json={"reason": "stolen"}, headers=headers).status_code == 200
    assert entries(two_sites, "labels.set")[-1]["actor"] == "nora"
    assert entries(two_sites, "device.shut_out")[-1]["actor"] == "nora"
    assert two_sites.rows(tables.labels)[-1]["who"] == "nora"


def test_a_name_in_a_body_is_not_taken_for_the_person(yard, client):
    (sample,) = yard.bring_in(("north", "a", "", None))
    body = {"labels": [{"sample": sample, "label": "pit"}], "who": "somebody else"}
    headers = bearer(give(yard, "labeller", name="ann"))
    assert client.post(f"{API}/labels", json=body, headers=headers).status_code == 422
    del body["who"]
    assert client.post(f"{API}/labels", json=body, headers=headers).status_code == 200
    assert entries(yard, "labels.set")[-1]["actor"] == "ann"


def test_sites_decide_as_sets():
    person = Person(name="ann", role="viewer", sites=frozenset({"north"}))
    assert (person.sees("north"), person.sees_any(["north", "south"]), person.sees_all(["north", "south"])) == (
        True,
        True,
        False,
    )
    assert Person(name="bob", role="viewer").sees_all(["anything"])
    with pytest.raises(Refused, match=r"site south; ann \(viewer\) is of site north"):
        person.check_sites(["north", "south"], "it")
    with pytest.raises(Refused, match="needs role operator or approver or admin"):
        person.check(Action.OPERATE)
    with pytest.raises(NotTrusted, match="all sites"):
        person.check_everywhere("it")


# -- guessing --------------------------------------------------------------------------------------------------------


def test_guessing_is_bounded_by_address_told_and_audited(yard, client):
    most = yard.hub.limits.attempts_max
    for _ in range(most):
        assert client.get(f"{API}/me", headers=bearer("ew_guess")).status_code == 401
    good = bearer(yard.hub.tokens.text("admin"))
    for headers in (bearer("ew_guess"), good):
        answer = client.get(f"{API}/me", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_attempts")
        assert 0 < int(answer.headers["retry-after"]) <= yard.hub.limits.attempts_window_s
    assert client.get(f"{API}/blobs/{digest(b'')}", headers=good).status_code == 429, "raw routes count too"
    noted = entries(yard, "access.failed")
    assert len(noted) == most
    assert noted[-1]["data"]["must_wait"]
    assert (noted[0]["actor"], noted[0]["subject"]) == ("nobody", "127.0.0.1")
    yard.clock.advance(yard.hub.limits.attempts_window_s)
    assert client.get(f"{API}/me", headers=good).status_code == 200


def test_one_address_that_guesses_keeps_no_other_out_and_memory_is_bounded(yard):
    attempts, now = Attempts(failures_max=2, window_s=60, keys_max=3), yard.hub.now()
    for _ in range(2):
        attempts.failed("bad", now)
    with pytest.raises(TooMany, match="2 attempts"):
        attempts.check("bad", now)
    attempts.check("good", now)
    attempts.check("bad", now + timedelta(seconds=60))
    for number in range(3):
        attempts.failed(str(number), now)
    attempts.check("bad", now)  # forgotten: only so many addresses are remembered


def test_a_page_left_open_after_its_session_ended_is_no_guess(yard, client):
    client.get("/", params={"token": give(yard, "viewer")})
    cookie = client.cookies[COOKIE]
    yard.clock.advance(yard.hub.limits.session_s + 1)
    for _ in range(2 * yard.hub.limits.attempts_max):
        assert client.get("/console/live", headers={"Cookie": f"{COOKIE}={cookie}"}).status_code == 401
    assert client.get(f"{API}/me", headers=bearer(yard.hub.tokens.text("admin"))).status_code == 200
