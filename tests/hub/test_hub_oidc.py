"""OpenID Connect: what a token must hold, keys that change, and whole logins against a real provider over HTTP."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import uvicorn
from joserfc import jwk, jwt
from pydantic import ValidationError

from edgewise.hub import Hub, HubConfig, create_app
from edgewise.hub.access import Person
from edgewise.hub.api.auth import COOKIE
from edgewise.hub.limits import Limits
from edgewise.hub.oidc import Oidc, OidcSettings, challenge, person_of
from edgewise.hub.store import Store, tables
from edgewise.ports import MemoryBlobs, SeededChance, listen
from edgewise.ports.oidc import HttpIssuer, MemoryIssuer
from edgewise.wire import NotNow, NotTrusted

NOW = datetime(2026, 5, 4, 8, 0, tzinfo=UTC)
URL = "https://login.example"
RULES = (
    {"value": "bosses", "role": "admin"},
    {"value": "north-line", "role": "operator", "sites": ("north",)},
    {"claim": "realm_access.roles", "value": "reader", "role": "viewer"},
)


@dataclass
class World:
    """An issuer in memory with keys that can change, and the hub's half of it."""

    settings: OidcSettings = field(
        default_factory=lambda: OidcSettings(issuer=URL, client_id="hub", rules=RULES)  # type: ignore[arg-type]
    )
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        self.key = jwk.ECKey.generate_key("P-256", {"kid": "one", "use": "sig"})
        self.issuer = MemoryIssuer({})
        self.publish(self.key)
        self.oidc = Oidc(self.settings, self.issuer, self.limits)

    def publish(self, *keys: Any) -> None:
        address = f"{URL}/.well-known/openid-configuration"
        self.issuer.documents[address] = {
            "issuer": URL,
            "jwks_uri": f"{URL}/keys",
            "authorization_endpoint": f"{URL}/authorize",
            "token_endpoint": f"{URL}/token",
        }
        self.issuer.documents[f"{URL}/keys"] = {"keys": [key.as_dict(private=False) for key in keys]}

    def token(self, *, key: Any = None, header: dict[str, Any] | None = None, **changes: Any) -> str:
        at = int(NOW.timestamp())
        claims = {"iss": URL, "aud": "hub", "sub": "u1", "iat": at, "exp": at + 300, "groups": ["north-line"]}
        claims = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        return jwt.encode({"alg": "ES256", "kid": "one"} | (header or {}), claims, key or self.key)


@pytest.fixture
def world() -> World:
    return World()


def test_a_good_token_is_a_person_with_the_role_and_sites_of_the_first_rule_that_fits(world):
    assert world.oidc.person(world.token(), NOW) == Person(name="oidc:u1", role="operator", sites=frozenset({"north"}))
    both = world.token(groups=["north-line", "bosses"])
    assert world.oidc.person(both, NOW) == Person(name="oidc:u1", role="admin")
    inner = world.token(groups=None, realm_access={"roles": ["reader"]})
    assert world.oidc.person(inner, NOW).role == "viewer"
    listed = world.token(aud=["other", "hub"])
    assert world.oidc.person(listed, NOW).role == "operator"


SOON, LATE = int(NOW.timestamp()) + 3600, int(NOW.timestamp()) - 3600


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"iss": "https://other.example"}, "iss"),
        ({"iss": None}, "iss"),
        ({"aud": "another"}, "aud"),
        ({"aud": None}, "aud"),
        ({"exp": LATE}, "expired"),
        ({"exp": None}, "exp"),
        ({"nbf": SOON}, "not yet valid"),
        ({"iat": SOON}, "future"),
        ({"sub": None}, "sub"),
        ({"groups": ["strangers"]}, "no rule"),
        ({"groups": None}, "no rule"),
        ({"groups": {"north-line": True}}, "no rule"),
    ],
    ids=lambda value: json.dumps(value)[:50],
)
def test_a_token_that_lacks_something_is_refused_with_what(world, changes, says):
    with pytest.raises(NotTrusted, match=says):
        world.oidc.person(world.token(**changes), NOW)


def test_a_minutes_leeway_and_no_more(world):
    token = world.token()
    assert world.oidc.person(token, NOW + timedelta(seconds=350))
    with pytest.raises(NotTrusted):
        world.oidc.person(token, NOW + timedelta(seconds=361))


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_no_signature_another_key_or_another_algorithm_is_refused(world):
    good = world.token()
    header, claims, signature = good.split(".")
    other = jwk.ECKey.generate_key("P-256", {"kid": "one"})
    secret = jwk.OctKey.import_key(json.dumps(world.key.as_dict(private=False)))
    rsa = jwk.RSAKey.generate_key(2048, {"kid": "one"})
    bad = {
        "none": f"{part({'alg': 'none', 'kid': 'one'})}.{claims}.",
        "nothing": f"{header}.{claims}.",
        "other claims": f"{header}.{part({'sub': 'boss'})}.{signature}",
        "another key under the same id": world.token(key=other),
        "the public key as a shared secret": jwt.encode({"alg": "HS256", "kid": "one"}, {"sub": "u"}, secret),
        "an algorithm not in the list": jwt.encode(
            {"alg": "RS512", "kid": "one"}, {"sub": "u"}, rsa, algorithms=["RS512"]
        ),
        "a critical header": world.token(header={"crit": ["b64"], "b64": False}),
        "too long": good + "x" * world.limits.jwt_bytes_max,
        "no JWT": "a.b.c",
        "not even that": "..",
        "no ASCII": "ä.ö.ü",
    }
    for token in bad.values():
        with pytest.raises(NotTrusted):
            world.oidc.person(token, NOW)


def test_shared_secrets_and_keys_for_encryption_are_never_taken_from_the_issuer(world):
    secret = jwk.OctKey.generate_key(256, {"kid": "s"})
    hidden = {**world.key.as_dict(private=False), "use": "enc", "kid": "e"}
    world.publish(world.key)
    keys = world.issuer.documents[f"{URL}/keys"]["keys"]
    keys += [secret.as_dict(), hidden]
    assert world.oidc.person(world.token(), NOW)
    for kid in ("s", "e"):
        with pytest.raises(NotTrusted):
            world.oidc.person(world.token(header={"kid": kid}), NOW)


def test_keys_rotate_and_a_key_taken_away_is_no_longer_good(world):
    old = world.token()
    world.oidc.person(old, NOW)
    fresh = jwk.ECKey.generate_key("P-256", {"kid": "two"})
    world.publish(fresh)
    later = NOW + timedelta(seconds=world.limits.issuer_pause_s)
    assert world.oidc.person(world.token(key=fresh, header={"kid": "two"}), later)
    with pytest.raises(NotTrusted, match="one"):
        world.oidc.person(old, later)


def test_a_token_with_an_unknown_key_makes_the_hub_ask_again_but_not_too_often(world):
    world.oidc.person(world.token(), NOW)
    asked = len(world.issuer.asked)
    for second in range(10):
        with pytest.raises(NotTrusted):
            world.oidc.person(world.token(header={"kid": "guess"}), NOW + timedelta(seconds=second))
    assert len(world.issuer.asked) == asked
    with pytest.raises(NotTrusted):
        world.oidc.person(world.token(header={"kid": "guess"}), NOW + timedelta(seconds=31))
    assert len(world.issuer.asked) == asked + 2


def test_while_the_issuer_is_silent_known_keys_are_good_for_a_day(world):
    world.oidc.person(world.token(), NOW)
    world.issuer.up = False
    for hours, good in ((2, True), (23, True), (25, False)):
        moment = NOW + timedelta(hours=hours)
        token = world.token(iat=int(moment.timestamp()), exp=int(moment.timestamp()) + 300)
        if good:
            assert world.oidc.person(token, moment)
        else:
            with pytest.raises(NotNow):
                world.oidc.person(token, moment)
    silent = World()
    silent.issuer.up = False
    with pytest.raises(NotNow, match="does not answer"):
        silent.oidc.person(silent.token(), NOW)


def test_an_issuer_that_calls_itself_otherwise_or_sends_elsewhere_is_refused(world):
    address = f"{URL}/.well-known/openid-configuration"
    good = dict(world.issuer.documents[address])
    for change in ({"issuer": URL + "/"}, {"jwks_uri": "http://evil.example/keys"}, {"jwks_uri": None}):
        world.issuer.documents[address] = good | change
        fresh = Oidc(world.settings, world.issuer, world.limits)
        with pytest.raises(NotTrusted):
            fresh.person(world.token(), NOW)


@pytest.mark.parametrize("url", ["http://login.example", "ftp://x", "login.example", "https://"])
def test_an_issuer_without_tls_is_a_mistake_in_the_settings(url):
    with pytest.raises(ValidationError):
        OidcSettings(issuer=url, client_id="hub", rules=RULES)  # type: ignore[arg-type]
    assert OidcSettings(issuer="http://127.0.0.1:9", client_id="hub", rules=RULES)  # type: ignore[arg-type]


def test_an_address_names_people_only_when_the_issuer_verified_it(world):
    settings = world.settings.model_copy(update={"name_claim": "email"})
    claims = {"sub": "u1", "email": "ann@example.com", "groups": "bosses"}
    with pytest.raises(NotTrusted, match="has not verified"):
        person_of(claims, settings)
    assert person_of({**claims, "email_verified": True}, settings).name == "oidc:ann@example.com"
    for name in (None, "", 7, "a\nb", "x" * 129):
        with pytest.raises(NotTrusted):
            person_of({**claims, "email_verified": True, "email": name}, settings)


# -- the code flow, in memory --------------------------------------------------------------------------------------


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store("sqlite://", MemoryBlobs())
    yield made
    made.close()


def begin(world: World, store: Store) -> tuple[dict[str, str], str]:
    address, state = world.oidc.begin(store, "https://hub/login/oidc/callback", now=NOW, chance=SeededChance(3))
    query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    assert query["state"] == state
    return query, state


def answer(world: World, **claims: Any) -> None:
    world.issuer.answers[f"{URL}/token"] = {"id_token": world.token(**claims)}


def test_a_login_proves_with_pkce_that_it_is_the_one_that_began(world, store):
    query, state = begin(world, store)
    assert (query["response_type"], query["code_challenge_method"], query["client_id"]) == ("code", "S256", "hub")
    answer(world, nonce=query["nonce"])
    assert world.oidc.finish(store, state=state, code="c", issuer=URL, now=NOW).role == "operator"
    ((form, client),) = world.issuer.forms
    assert challenge(form["code_verifier"]) == query["code_challenge"]
    assert (form["code"], form["redirect_uri"], client) == ("c", "https://hub/login/oidc/callback", None)


def test_a_state_is_good_once_and_for_minutes(world, store):
    query, state = begin(world, store)
    answer(world, nonce=query["nonce"])
    with pytest.raises(NotTrusted, match="not known"):
        world.oidc.finish(store, state="guess", code="c", issuer=None, now=NOW)
    world.oidc.finish(store, state=state, code="c", issuer=None, now=NOW)
    with pytest.raises(NotTrusted, match="not known"):
        world.oidc.finish(store, state=state, code="c", issuer=None, now=NOW)
    _, late = begin(world, store)
    with pytest.raises(NotTrusted, match="too long"):
        world.oidc.finish(store, state=late, code="c", issuer=None, now=NOW + timedelta(seconds=601))


@pytest.mark.parametrize(
    "wrong", [{"nonce": "other"}, {"nonce": None}, {"azp": "other"}, {"aud": "api"}], ids=lambda value: str(value)
)
def test_an_id_token_of_another_login_or_client_is_refused(world, store, wrong):
    world.oidc.settings = world.settings.model_copy(update={"audiences": ("api",)})
    query, state = begin(world, store)
    answer(world, **{"nonce": query["nonce"], **wrong})
    with pytest.raises(NotTrusted):
        world.oidc.finish(store, state=state, code="c", issuer=None, now=NOW)


def test_an_answer_of_another_issuer_is_refused(world, store):
    _, state = begin(world, store)
    with pytest.raises(NotTrusted, match="is of https://evil"):
        world.oidc.finish(store, state=state, code="c", issuer="https://evil", now=NOW)
    assert world.issuer.forms == [], "the code goes nowhere"


def test_logins_on_their_way_are_bounded(store):
    world = World(limits=replace(Limits(), logins_max=2))
    chance = SeededChance(1)
    for _ in range(2):
        world.oidc.begin(store, "https://hub/x", now=NOW, chance=chance)
    with pytest.raises(NotNow, match="on their way"):
        world.oidc.begin(store, "https://hub/x", now=NOW, chance=chance)
    world.oidc.begin(store, "https://hub/x", now=NOW + timedelta(hours=1), chance=chance)


# -- the port ---------------------------------------------------------------------------------------------------------


class Odd(BaseHTTPRequestHandler):
    """Answers that an issuer should not give."""

    def do_GET(self) -> None:
        bodies = {
            "/list": (200, b"[1]"),
            "/text": (200, b"hello"),
            "/big": (200, b'{"a": "' + b"x" * 5000 + b'"}'),
            "/deep": (200, b"[" * 4000),
            "/moved": (302, b""),
            "/refused": (400, b'{"error": "invalid_grant", "error_description": "the code is old"}'),
            "/broken": (500, b"{}"),
        }
        status, body = bodies[self.path]
        self.send_response(status)
        self.send_header("Location", "/text")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def odd() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Odd)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.mark.parametrize(
    ("path", "error", "says"),
    [
        ("/list", NotTrusted, "no JSON object"),
        ("/text", NotTrusted, "no JSON object"),
        ("/deep", NotTrusted, "more than|no JSON"),
        ("/big", NotTrusted, "more than 4096 bytes"),
        ("/moved", NotTrusted, "status 302"),
        ("/refused", NotTrusted, "the code is old"),
        ("/broken", NotNow, "status 500"),
    ],
)
def test_odd_answers_of_an_issuer_are_families_of_ours(odd, path, error, says):
    with pytest.raises(error, match=says):
        HttpIssuer(bytes_max=4096, wait_s_max=5).get(odd + path)


def test_a_silent_issuer_is_not_now():
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    listener.close()
    with pytest.raises(NotNow, match="does not answer"):
        HttpIssuer(bytes_max=4096, wait_s_max=2).get(f"http://127.0.0.1:{port}/x")


# -- a real provider, over HTTP ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """An OpenID Connect provider as a process of its own."""
    free = listen("127.0.0.1", 0)
    port = free.getsockname()[1]
    free.close()
    people = [{"sub": "ann", "groups": ["north-line"]}, {"sub": "bob", "groups": ["bosses"]}, {"sub": "eve"}]
    arguments = [part for one in people for part in ("--user-claims", json.dumps(one))]
    process = subprocess.Popen(
        [sys.executable, "-m", "oidc_provider_mock", "--port", str(port), "--require-nonce", "true", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "AUTHLIB_INSECURE_TRANSPORT": "1"},
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/.well-known/openid-configuration").status_code == 200:
                    break
            assert process.poll() is None, "the provider ended"
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(20)


@dataclass
class Real:
    hub: Hub
    browser: httpx.Client

    def go_to_issuer(self) -> str:
        """Leave for the issuer; comes back with its address."""
        left = self.browser.get("/login/oidc")
        assert left.status_code == 303, left.text
        return left.headers["location"]

    def come_back(self, address: str, sub: str) -> str:
        """Say yes at the issuer; comes back with where it sends the browser."""
        answered = httpx.post(address, data={"sub": sub})
        assert answered.status_code == 302, answered.text
        return answered.headers["location"]

    def log_in(self, sub: str) -> httpx.Response:
        return self.browser.get(self.come_back(self.go_to_issuer(), sub))

    def entries(self, action: str) -> list[Any]:
        with self.hub.store.read() as connection:
            rows = connection.execute(tables.audit.select()).mappings()
            return [row for row in rows if row["action"] == action]


@pytest.fixture
def real(provider: str) -> Iterator[Real]:
    settings = OidcSettings(
        issuer=provider,
        client_id="hub",
        client_secret="s3cret",
        title="the plants",
        rules=RULES,  # type: ignore[arg-type]
    )
    hub = Hub(HubConfig(oidc=settings))
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(create_app(hub), log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30) as browser:
        yield Real(hub, browser)
    server.should_exit = True
    thread.join(20)
    listener.close()
    hub.close()


def test_a_person_signs_in_at_the_provider_works_and_signs_out(real):
    assert 'href="/login/oidc">Sign in with the plants' in real.browser.get("/login").text
    answer = real.log_in("ann")
    assert answer.status_code == 200, answer.text
    cookie = next(text for text in answer.headers.get_list("set-cookie") if text.startswith(COOKIE))
    assert "httponly" in cookie.lower()
    assert "samesite=strict" in cookie.lower()
    page = real.browser.get("/")
    assert page.status_code == 200
    assert re.search(r"oidc:ann · operator · north", page.text)
    me = real.browser.get("/api/v1/me").json()
    assert (me["name"], me["role"], me["sites"]) == ("oidc:ann", "operator", ["north"])
    (opened,) = real.entries("session.opened")
    assert (opened["actor"], opened["data"]["how"]) == ("oidc:ann", "oidc")
    secret = real.browser.cookies[COOKIE]
    origin = {"Origin": str(real.browser.base_url).rstrip("/")}
    assert real.browser.post("/logout", headers=origin).status_code == 303
    assert real.browser.get("/", headers={"Cookie": f"{COOKIE}={secret}"}).status_code == 401, "the session is gone"
    assert [row["actor"] for row in real.entries("session.closed")] == ["oidc:ann"]


def test_somebody_without_a_rule_and_somebody_who_says_no_stay_outside(real):
    answer = real.log_in("eve")
    assert answer.status_code == 401
    assert "no rule of hub.yaml gives them a role" in answer.text
    denied = httpx.post(real.go_to_issuer(), data={"action": "deny"}).headers["location"]
    assert "did not begin in this browser" in real.browser.get(denied).text, "this provider forgets the state here"
    state = real.browser.cookies["edgewise_login"]
    assert "let nobody in: access_denied" in real.browser.get(f"{denied}&state={state}").text
    assert COOKIE not in real.browser.cookies
    assert len(real.entries("access.failed")) == 3


def test_a_login_that_began_in_another_browser_is_refused(real):
    back = real.come_back(real.go_to_issuer(), "bob")
    with httpx.Client(base_url=real.browser.base_url) as victim:
        answer = victim.get(back)
    assert answer.status_code == 401
    assert "did not begin in this browser" in answer.text
    assert real.browser.get(back).status_code == 200
    assert real.browser.get(back).status_code == 401, "a state is good once"


def test_an_id_token_of_the_provider_opens_the_api_and_a_changed_one_does_not(real, provider):
    form = {"client_id": "hub", "redirect_uri": "http://x/cb", "response_type": "code", "scope": "openid"}
    answered = httpx.post(
        f"{provider}/oauth2/authorize", params={**form, "nonce": "n", "state": "s"}, data={"sub": "bob"}
    )
    code = parse_qs(urlsplit(answered.headers["location"]).query)["code"][0]
    wish = {"grant_type": "authorization_code", "code": code, "redirect_uri": "http://x/cb"}
    token = httpx.post(f"{provider}/oauth2/token", data=wish, auth=("hub", "s3cret")).json()["id_token"]
    answer = real.browser.get("/api/v1/me", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["name"], answer.json()["role"]) == (200, "oidc:bob", "admin")
    header, _, signature = token.split(".")
    claims = {"iss": provider, "aud": "hub", "sub": "bob", "exp": int(time.time()) + 900, "groups": ["bosses"]}
    forged = f"{header}.{part(claims)}.{signature}"
    answer = real.browser.get("/api/v1/me", headers={"Authorization": f"Bearer {forged}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
    assert real.entries("access.failed")[-1]["data"]["code"] == "token_invalid"


def test_without_settings_there_is_no_such_door(make_yard):
    yard = make_yard()
    assert yard.hub.oidc is None
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(create_app(yard.hub), log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}") as browser:
        assert "/login/oidc" not in browser.get("/login").text
        assert browser.get("/login/oidc").status_code == 404
        assert browser.get("/login/oidc/callback?code=c&state=s").status_code == 401
        answer = browser.get("/api/v1/me", headers={"Authorization": "Bearer a.b.c"})
        assert (answer.status_code, answer.json()["code"]) == (401, "no_token")
    server.should_exit = True
    thread.join(20)
    listener.close()
