"""How pages are made: templates, headers, and what every page knows of the person who looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.responses import HTMLResponse

from edgewise.hub._hub import Hub
from edgewise.hub.access import Action, Person
from edgewise.hub.console import words

HEADERS = {
    # Everything comes from the hub itself, and no page of another site can show or script ours.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("edgewise.hub.console", "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(words.FILTERS)
    return made


TEMPLATES = _environment()


def render(template: str, values: Mapping[str, Any], *, who: Person | None = None, status: int = 200) -> HTMLResponse:
    """A whole page, or a part of one, for this person."""
    may = {action.value: who is not None and who.may(action) for action in Action}
    frame = {"active": None, "names": (), "usecase": None, "who": who, "may": may}
    html = TEMPLATES.get_template(template).render(**{**frame, **values})
    return HTMLResponse(html, status_code=status, headers=HEADERS)


def login_page(hub: Hub, *, text: str = "", title: str = "Sign in", status: int = 401) -> HTMLResponse:
    """The door: a token, or the issuer where there is one."""
    issuer = None if hub.oidc is None else hub.oidc.settings.title
    return render("login.html", {"title": title, "text": text, "issuer": issuer}, status=status)
