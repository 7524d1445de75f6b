"""Pages of the ledger: one thing with its neighbours, and whether each round helped."""

from __future__ import annotations

from typing import Any

from fastapi import Response

from edgewise.hub import helped, ledger, scope, usecases
from edgewise.hub.api.auth import ThisHub
from edgewise.hub.api.ledger import check
from edgewise.hub.console._render import page
from edgewise.hub.console._router import router
from edgewise.hub.console.label_data import names
from edgewise.hub.console.login import Visitor


@router.get("/ledger/{name}")
def entry(hub: ThisHub, who: Visitor, name: str) -> Response:
    """A sample, revision, order, bundle or release: what it was made of, and what was made of it."""

    def values() -> dict[str, Any]:
        with hub.store.read() as connection:
            found = ledger.find(connection, name)
            check(connection, who, found)
        return {"entry": found, "kinds": ledger.KINDS}

    return page(hub, who, "ledger.html", values)


@router.get("/rounds/{use_case}")
def rounds(hub: ThisHub, who: Visitor, use_case: str) -> Response:
    """Whether each release helped, beside the one that it replaced."""

    def values() -> dict[str, Any]:
        with hub.store.read() as connection:
            usecase = usecases.need(connection, use_case)
            scope.check_whole(connection, who, use_case, f"the rounds of {use_case}")
            return {
                "usecase": usecase,
                "names": names(connection, who),
                "active": "use-case",
                "rounds": helped.of_use_case(connection, use_case),
            }

    return page(hub, who, "rounds.html", values)
