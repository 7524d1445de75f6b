"""People of an OpenID Connect issuer: its tokens are checked here, and its claims become a role and sites.

Sources: OpenID Connect Core 1.0 section 3.1, RFC 7636 (PKCE), RFC 8725 (JWT best practices), RFC 9207 (`iss`).
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from urllib.parse import quote_plus, urlencode, urlsplit

from joserfc import jwk, jws, jwt
from joserfc.errors import JoseError
from pydantic import Field, SecretStr, field_validator

from edgewise.hub.access import PeopleRole, Person
from edgewise.hub.limits import Limits
from edgewise.hub.store import Store
from edgewise.hub.store import people as rows
from edgewise.ports import Chance
from edgewise.ports.oidc import Issuer
from edgewise.trust import token_digest
from edgewise.wire import EdgewiseError, NotNow, NotTrusted, Strict
from edgewise.wire._record import Name

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
LEEWAY_S = 60
SECRET_BYTES = 32
PREFIX = "oidc:"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
KEY_KINDS = ("RSA", "EC", "OKP")
BASIC = "client_secret_basic"


class OidcRule(Strict):
    """Whoever has this value in this claim gets this role."""

    claim: str = Field("groups", min_length=1, max_length=200, description="name; dots lead inside: realm_access.roles")
    value: str = Field(min_length=1, max_length=200)
    role: PeopleRole
    sites: tuple[Name, ...] | None = Field(None, min_length=1, description="all where it is left out")


class OidcSettings(Strict):
    """The issuer, who we are to it, and what its people may do here. The first rule that fits decides."""

    issuer: str = Field(description="its address, exactly as in the claim `iss`")
    client_id: str = Field(min_length=1, max_length=200)
    client_secret: SecretStr | None = None
    title: str = Field("single sign-on", max_length=60, description="on the button of the login page")
    audiences: tuple[str, ...] = Field((), description="of access tokens for the API, beside the client id")
    scopes: tuple[str, ...] = ("openid",)
    algorithms: tuple[Algorithm, ...] = Field(("RS256", "ES256"), min_length=1)
    name_claim: str = Field("sub", description="what the audit log calls people; only `sub` is never given away anew")
    public_url: str | None = Field(None, description="the hub's own address, where a proxy hides it")
    rules: tuple[OidcRule, ...] = Field(min_length=1, max_length=1000)

    @field_validator("issuer")
    @classmethod
    def _check_issuer(cls, value: str) -> str:
        if not _safe(value):
            raise ValueError("needs https://, or http:// on this machine")
        return value


@dataclass(frozen=True, slots=True)
class _Known:
    """What the issuer said last."""

    metadata: Mapping[str, Any]
    keys: jwk.KeySet
    kids: frozenset[str | None]
    at: datetime


class Oidc:
    """One issuer. Its keys are held for a while, asked for again when a token names one not known, and bounded."""

    def __init__(self, settings: OidcSettings, issuer: Issuer, limits: Limits) -> None:
        self.settings = settings
        self._issuer = issuer
        self._limits = limits
        self._known: _Known | None = None
        self._asked_at: datetime | None = None
        self._lock = threading.Lock()

    def person(self, token: str, now: datetime) -> Person:
        """Whoever shows this access or ID token.

        Raises:
            NotTrusted: signature, algorithm, issuer, audience or time do not hold, or no rule gives a role.
            NotNow: the issuer's keys cannot be had.
        """
        claims = self._claims(token, (self.settings.client_id, *self.settings.audiences), now)
        return person_of(claims, self.settings)

    def begin(self, store: Store, redirect_uri: str, *, now: datetime, chance: Chance) -> tuple[str, str]:
        """Start a login: the address to send the browser to, and the state for its cookie.

        Raises:
            NotNow: the issuer does not answer, or too many logins are on their way.
        """
        state, nonce, verifier = (_text(chance.bytes(SECRET_BYTES)) for _ in range(3))
        address = _checked(self._now_known(now).metadata, "authorization_endpoint")
        with store.write() as connection:
            if rows.forget_logins(connection, before=now) >= self._limits.logins_max:
                raise NotNow(f"{self._limits.logins_max} logins are on their way; try again later", code="logins_max")
            times = {"made_at": now, "expires_at": now + timedelta(seconds=self._limits.login_s)}
            row = {"digest": token_digest(state), "nonce": nonce, "verifier": verifier, "redirect_uri": redirect_uri}
            rows.add_login(connection, row | times)
        query = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self.settings.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge(verifier),
            "code_challenge_method": "S256",
        }
        return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}", state

    def finish(self, store: Store, *, state: str, code: str, issuer: str | None, now: datetime) -> Person:
        """Who came back from the issuer with this code. A state is good once.

        Raises:
            NotTrusted: the state is unknown or old, the answer is another issuer's, or its ID token does not hold.
            NotNow: the issuer does not answer.
        """
        with store.write() as connection:
            row = rows.take_login(connection, token_digest(state))
        if row is None or row.expires_at <= now:
            raise NotTrusted("this login is not known or took too long; start again", code="login_unknown")
        if issuer is not None and issuer != self.settings.issuer:
            raise NotTrusted(f"the answer is of {issuer[:200]}, needs {self.settings.issuer}", code="token_invalid")
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": row.redirect_uri}
        form |= {"code_verifier": row.verifier, "client_id": self.settings.client_id}
        known = self._now_known(now)
        answer = self._exchange(form, known)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise NotTrusted("the issuer's answer has no ID token; `oidc.scopes` needs openid", code="token_invalid")
        claims = self._claims(token, (self.settings.client_id,), now)
        if claims.get("nonce") != row.nonce:
            raise NotTrusted("the ID token was made for another login (nonce)", code="token_invalid")
        if claims.get("azp", self.settings.client_id) != self.settings.client_id:
            raise NotTrusted("the ID token was made for another client (azp)", code="token_invalid")
        return person_of(claims, self.settings)

    def _exchange(self, form: Mapping[str, str], known: _Known) -> Mapping[str, Any]:
        """Send the code with the client's secret, where it has one: as basic authentication, or in the form."""
        address = _checked(known.metadata, "token_endpoint")
        if self.settings.client_secret is None:
            return self._issuer.post(address, form)
        secret = self.settings.client_secret.get_secret_value()
        if BASIC in known.metadata.get("token_endpoint_auth_methods_supported", [BASIC]):
            # RFC 6749 section 2.3.1: both are form-encoded before they become user and password.
            return self._issuer.post(address, form, client=(quote_plus(self.settings.client_id), quote_plus(secret)))
        return self._issuer.post(address, {**form, "client_secret": secret})

    def _claims(self, token: str, audiences: tuple[str, ...], now: datetime) -> Mapping[str, Any]:
        if len(token) > self._limits.jwt_bytes_max:
            raise NotTrusted(
                f"this token has {len(token)} bytes, at most {self._limits.jwt_bytes_max} are read",
                code="token_invalid",
            )
        try:
            kid = _kid(token)
            keys = self._keys_for(kid, now)
            found = jwt.decode(token, keys, algorithms=list(self.settings.algorithms))
            registry = jwt.JWTClaimsRegistry(
                now=int(now.timestamp()),
                leeway=LEEWAY_S,
                iss={"essential": True, "value": self.settings.issuer},
                aud={"essential": True, "values": list(audiences)},
                exp={"essential": True},
                sub={"essential": True},
            )
            registry.validate(found.claims)
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise NotTrusted(
                f"this JWT of the OIDC issuer is not accepted: {error}; needs issuer {self.settings.issuer}, audience "
                f"{' or '.join(audiences)}, algorithm {' or '.join(self.settings.algorithms)}, and to be in force",
                code="token_invalid",
            ) from error
        return found.claims

    def _keys_for(self, kid: str | None, now: datetime) -> jwk.KeySet:
        known = self._now_known(now)
        if kid not in known.kids and not (kid is None and len(known.kids) == 1):
            known = self._now_known(now, at_once=True)
        return known.keys

    def _now_known(self, now: datetime, *, at_once: bool = False) -> _Known:
        """The issuer's documents: those held while they are young, else asked for again, but not too often."""
        with self._lock:
            known, limits = self._known, self._limits
            young = known is not None and now - known.at < timedelta(seconds=limits.issuer_age_s)
            paused = self._asked_at is not None and now - self._asked_at < timedelta(seconds=limits.issuer_pause_s)
            if known is not None and ((young and not at_once) or paused):
                return known
            self._asked_at = now
            try:
                self._known = self._ask(now)
            except EdgewiseError:
                if known is None or now - known.at > timedelta(seconds=limits.issuer_stale_s_max):
                    raise
                return known
            return self._known

    def _ask(self, now: datetime) -> _Known:
        metadata = self._issuer.get(f"{self.settings.issuer.rstrip('/')}/.well-known/openid-configuration")
        if metadata.get("issuer") != self.settings.issuer:
            raise NotTrusted(
                f"the issuer calls itself {str(metadata.get('issuer'))[:200]}, hub.yaml has {self.settings.issuer}; "
                "make them the same",
                code="token_invalid",
            )
        found = self._issuer.get(_checked(metadata, "jwks_uri")).get("keys")
        usable = [
            key
            for key in (found if isinstance(found, list) else [])
            if isinstance(key, dict) and key.get("kty") in KEY_KINDS and key.get("use", "sig") == "sig"
        ][: self._limits.issuer_keys_max]
        try:
            keys = jwk.KeySet.import_key_set({"keys": usable})
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise NotTrusted(f"the issuer's keys cannot be used: {error}", code="token_invalid") from error
        kids = frozenset(key.kid for key in keys)
        return _Known(metadata, keys, kids, now)


def person_of(claims: Mapping[str, Any], settings: OidcSettings) -> Person:
    """The person that these claims speak of: the first rule that fits gives role and sites.

    Raises:
        NotTrusted: no name, an address that the issuer has not verified, or no rule fits.
    """
    name = claims.get(settings.name_claim)
    if not isinstance(name, str) or not 1 <= len(name) <= 128 or not name.isprintable():
        raise NotTrusted(f"the token has no usable claim {settings.name_claim!r} for a name", code="token_invalid")
    used = {settings.name_claim, *(rule.claim for rule in settings.rules)}
    if "email" in used and "email" in claims and claims.get("email_verified") is not True:
        raise NotTrusted(f"the issuer has not verified the address of {name}", code="token_invalid")
    for rule in settings.rules:
        if rule.value in _values(claims, rule.claim):
            sites = None if rule.sites is None else frozenset(rule.sites)
            return Person(name=PREFIX + name, role=rule.role, sites=sites)
    raise NotTrusted(
        f"{name} is known to the issuer, and no rule of hub.yaml gives them a role; ask an administrator",
        code="no_rule",
    )


def challenge(verifier: str) -> str:
    """The S256 code challenge of a verifier. Source: RFC 7636 appendix B.

    >>> challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM'
    """
    return _text(hashlib.sha256(verifier.encode()).digest())


def _values(claims: Mapping[str, Any], path: str) -> tuple[str, ...]:
    """The texts of a claim: one, or a list of them. A whole name wins over a way inside."""
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for part in path.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    items = found if isinstance(found, list) else [found]
    return tuple(item for item in items if isinstance(item, str))


def _kid(token: str) -> str | None:
    kid = jws.extract_compact(token.encode()).headers().get("kid")
    return kid if isinstance(kid, str) else None


def _checked(metadata: Mapping[str, Any], name: str) -> str:
    address = metadata.get(name)
    if not isinstance(address, str) or not _safe(address):
        raise NotTrusted(
            f"the issuer names {str(address)[:200]} as its {name}; needs https://, or http:// on this machine",
            code="token_invalid",
        )
    return address


def _safe(address: str) -> bool:
    parts = urlsplit(address)
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK))


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
