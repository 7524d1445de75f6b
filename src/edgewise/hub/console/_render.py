"""How pages are made: templates, headers, and what every page knows of the person who looks at it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from edgewise.hub._hub import Hub
from edgewise.hub.access import Action, Person, Refused
from edgewise.hub.api.problems import status_of
from edgewise.hub.console import nav, words
from edgewise.wire import EdgewiseError

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
    frame = {"active": None, "names": (), "usecase": None, "who": who, "may": may, "not_shown": False}
    shown = {**frame, **values}
    shown |= {"head_links": nav.links(who), "home": nav.home(shown["active"])}
    html = TEMPLATES.get_template(template).render(**shown)
    return HTMLResponse(html, status_code=status, headers=HEADERS)


def page(hub: Hub, who: Person, template: str, values: Callable[[], Mapping[str, Any]]) -> HTMLResponse:
    """A page of what this person may see, or one that says why it cannot be shown."""
    try:
        found = values()
    except Refused:
        raise
    except EdgewiseError as error:
        return sorry(error, who, status=404 if error.code.endswith("_unknown") else status_of(error))
    return render(template, {**found, "now": hub.now()}, who=who)


def sorry(error: EdgewiseError, who: Person, *, status: int, back: str = "/") -> HTMLResponse:
    """A page that says what could not be done, and leads back."""
    title = "Not found" if status == 404 else "Not now" if status in (409, 503) else "Not done"
    return render("message.html", {"title": title, "text": str(error), "back": back}, who=who, status=status)


def is_part(request: Request) -> bool:
    """Whether htmx asks, so that only the part that changes is wanted."""
    return request.headers.get("hx-request") == "true"


def login_page(hub: Hub, *, text: str = "", title: str = "Sign in", status: int = 401) -> HTMLResponse:
    """The door: a token, or the issuer where there is one."""
    issuer = None if hub.oidc is None else hub.oidc.settings.title
    return render("login.html", {"title": title, "text": text, "issuer": issuer}, status=status)
