"""The pages that the head of each page leads to, in the order of the loop."""

from __future__ import annotations

from dataclasses import dataclass

from edgewise.hub.access import Action, Person


@dataclass(frozen=True, slots=True)
class Link:
    """One page: `key` says which one is open, `needs` which action of a role shows it."""

    key: str
    path: str
    title: str
    needs: Action = Action.WATCH


LINKS = (
    Link("overview", "/", "Overview"),
    Link("use-case", "/use-case", "Use case"),
    Link("devices", "/devices", "Devices"),
    Link("data", "/data", "Data"),
    Link("labelling", "/labelling", "Labelling"),
    Link("labels", "/labels", "Labels"),
    Link("orders", "/orders", "Orders"),
    Link("releases", "/releases", "Releases"),
    Link("rollouts", "/rollouts", "Rollouts"),
    Link("app", "/app", "App"),
    Link("cost", "/cost", "Cost"),
    Link("audit", "/audit", "Audit", Action.AUDIT),
    Link("settings", "/settings", "Settings"),
)


def links(who: Person | None) -> tuple[Link, ...]:
    """What this person's role may open; nothing before the door."""
    return () if who is None else tuple(link for link in LINKS if who.may(link.needs))


def home(active: str | None) -> str:
    """Where the switch between use cases leads from this page.

    >>> home("orders"), home(None)
    ('/orders', '/')
    """
    return next((link.path for link in LINKS if link.key == active), "/")
