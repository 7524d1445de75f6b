"""The door to an OpenID Connect issuer: its documents, its keys, and the exchange of a code for tokens."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from edgewise.wire import NotNow, NotTrusted


class Issuer(Protocol):
    """What is asked of an issuer. Every failure is NotNow (no answer) or NotTrusted (an answer that cannot be used)."""

    def get(self, address: str) -> Mapping[str, Any]:
        """The JSON object at this address."""
        ...

    def post(
        self, address: str, form: Mapping[str, str], *, client: tuple[str, str] | None = None
    ) -> Mapping[str, Any]:
        """The JSON object that answers this form; `client` are a name and a password for basic authentication."""
        ...


class HttpIssuer:
    """An issuer over HTTP: no redirects, answers bounded in bytes and in time.

    Args:
        bytes_max: of one answer.
        wait_s_max: for one whole answer.
    """

    def __init__(self, *, bytes_max: int, wait_s_max: float) -> None:
        self._bytes_max = bytes_max
        self._wait_s_max = wait_s_max

    def get(self, address: str) -> Mapping[str, Any]:
        return self._ask("GET", address)

    def post(
        self, address: str, form: Mapping[str, str], *, client: tuple[str, str] | None = None
    ) -> Mapping[str, Any]:
        return self._ask("POST", address, data=dict(form), auth=client)

    def _ask(self, method: str, address: str, **options: Any) -> Mapping[str, Any]:
        end = time.monotonic() + self._wait_s_max
        body = bytearray()
        try:
            with (
                httpx.Client(timeout=self._wait_s_max, follow_redirects=False) as http,
                http.stream(method, address, headers={"Accept": "application/json"}, **options) as answer,
            ):
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > self._bytes_max:
                        raise _unusable(address, f"more than {self._bytes_max} bytes")
                    if time.monotonic() > end:
                        raise NotNow(f"{address} took longer than {self._wait_s_max:.0f} s", code="issuer_slow")
                status = answer.status_code
        except httpx.HTTPError as error:
            raise NotNow(
                f"the OIDC issuer does not answer at {address} ({type(error).__name__}: {error}); try again, or "
                "sign in with a token",
                code="issuer_unreachable",
            ) from error
        if status >= 500:
            raise NotNow(
                f"the OIDC issuer answered {address} with status {status}; try again", code="issuer_unreachable"
            )
        try:
            value = json.loads(bytes(body))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise _unusable(address, f"status {status} and no JSON object")
        if status != 200:
            raise _unusable(
                address, f"status {status}, {str(value.get('error_description') or value.get('error'))[:200]}"
            )
        return value


@dataclass
class MemoryIssuer:
    """An issuer in the same process: the documents by address, and a function for forms. Down while `up` is false."""

    documents: dict[str, Mapping[str, Any]]
    answers: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    up: bool = True
    asked: list[str] = field(default_factory=list)
    forms: list[tuple[Mapping[str, str], tuple[str, str] | None]] = field(default_factory=list)

    def get(self, address: str) -> Mapping[str, Any]:
        return self._find(address, self.documents)

    def post(
        self, address: str, form: Mapping[str, str], *, client: tuple[str, str] | None = None
    ) -> Mapping[str, Any]:
        self.forms.append((form, client))
        return self._find(address, self.answers)

    def _find(self, address: str, where: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        self.asked.append(address)
        if not self.up:
            raise NotNow(f"the OIDC issuer does not answer at {address}", code="issuer_unreachable")
        if address not in where:
            raise _unusable(address, "status 404")
        return where[address]


def _unusable(address: str, seen: str) -> NotTrusted:
    return NotTrusted(
        f"the OIDC issuer's answer at {address} cannot be used: {seen}; check `oidc` in hub.yaml", code="token_invalid"
    )
