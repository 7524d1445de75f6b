"""One generic page that draws the blocks of any app, its own where it brings some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response

from edgewise.hub import app_page
from edgewise.hub.api.auth import ThisHub
from edgewise.hub.console._router import router
from edgewise.hub.console.cases import Case, case_page
from edgewise.hub.console.login import Visitor


@router.get("/app")
def app_of(request: Request, hub: ThisHub, who: Visitor) -> Response:
    """The page of the use case's app."""
    return case_page(request, hub, who, "app.html", _blocks, active="app")


def _blocks(case: Case) -> Mapping[str, Any]:
    found = app_page.numbers(case.connection, case.usecase, case.who, now=case.hub.now())
    own = case.hub.config.app_pages.get(case.usecase.app)
    draw = own or app_page.plain_blocks
    return {
        "blocks": draw(found, case.usecase.outcome.good_labels),
        "own": own is not None,
        "days": app_page.WINDOW.days,
        "any": any(one.total for one in found),
        "sites": case.mine,
        "proxies": case.usecase.rollout.backstop.proxies if case.usecase.rollout.backstop else (),
    }
