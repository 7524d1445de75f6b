"""Who may do what: roles and their actions in one table, and people whose sites bound what they see and change."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias, get_args

from edgewise.wire import NotTrusted

PeopleRole: TypeAlias = Literal["viewer", "labeller", "operator", "approver", "admin"]
MachineRole: TypeAlias = Literal["worker", "signer"]
Role: TypeAlias = PeopleRole | MachineRole
PEOPLE: tuple[PeopleRole, ...] = get_args(PeopleRole)
MACHINES: tuple[MachineRole, ...] = get_args(MachineRole)
ROLES: tuple[Role, ...] = (*PEOPLE, *MACHINES)


class Action(StrEnum):
    """What a route lets somebody do; every route names the ones that open it."""

    READ = "read"
    WATCH = "watch"
    LABEL = "label"
    OPERATE = "operate"
    APPROVE = "approve"
    AUDIT = "audit"
    ADMINISTER = "administer"
    TRAIN = "train"
    SIGN = "sign"


MEANS: Mapping[Action, str] = {
    Action.READ: "use cases, bundles, releases, verdicts, rollouts, whom devices trust",
    Action.WATCH: "devices, samples, telemetry, the overview, the console",
    Action.LABEL: "label samples, import samples",
    Action.OPERATE: "rollouts, reverts, training orders, enrolment tokens, shutting devices out",
    Action.APPROVE: "answer a rollout that waits for a person, push a candidate to the signer again, order erasures",
    Action.AUDIT: "the audit log",
    Action.ADMINISTER: "use cases, release keys, people's tokens",
    Action.TRAIN: "claim orders, read training revisions, return candidates and bundles",
    Action.SIGN: "the evaluation share, scorecards, requests to sign; bring signed releases",
}

_VIEWER = frozenset({Action.READ, Action.WATCH})
_LABELLER = _VIEWER | {Action.LABEL}
_OPERATOR = _LABELLER | {Action.OPERATE}
_APPROVER = _OPERATOR | {Action.APPROVE, Action.SIGN, Action.AUDIT}
# The one table of permissions. docs/hub.md shows it, and a test compares both.
PERMITTED: Mapping[Role, frozenset[Action]] = {
    "viewer": _VIEWER,
    "labeller": _LABELLER,
    "operator": _OPERATOR,
    "approver": _APPROVER,
    "admin": frozenset(Action),
    "worker": frozenset({Action.READ, Action.TRAIN}),
    "signer": frozenset({Action.READ, Action.SIGN}),
}


def roles_with(actions: Collection[Action]) -> tuple[Role, ...]:
    """The roles that may do at least one of these.

    >>> roles_with([Action.ADMINISTER]), roles_with([Action.TRAIN])
    (('admin',), ('admin', 'worker'))
    """
    return tuple(role for role in ROLES if PERMITTED[role].intersection(actions))


class Refused(NotTrusted):
    """Somebody known asked for what they may not do. The answer and the audit log both say who and what."""

    def __init__(self, text: str, *, code: str, person: Person) -> None:
        super().__init__(text, code=code)
        self.person = person


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """Somebody known: a person, or a program with a machine's role.

    Attributes:
        name: what the audit log says.
        sites: the sites that they see and change; None for all, those of the future too.
        token: id of the stored token that was shown, None for others.
    """

    name: str
    role: Role
    sites: frozenset[str] | None = None
    token: str | None = None

    def may(self, *actions: Action) -> bool:
        """Whether the role permits at least one of these."""
        return not PERMITTED[self.role].isdisjoint(actions)

    def sees(self, site: str) -> bool:
        return self.sites is None or site in self.sites

    def sees_any(self, sites: Iterable[str]) -> bool:
        return self.sites is None or any(site in self.sites for site in sites)

    def sees_all(self, sites: Iterable[str]) -> bool:
        return self.sites is None or all(site in self.sites for site in sites)

    def check(self, *actions: Action) -> None:
        """Raises Refused where the role permits none of these."""
        if not self.may(*actions):
            needed = " or ".join(roles_with(actions))
            raise Refused(
                f"{self.name} has role {self.role} and may not {' or '.join(actions)}; it needs role {needed}",
                code="role_wrong",
                person=self,
            )

    def check_sites(self, sites: Iterable[str], what: str) -> None:
        """Raises Refused unless this person's sites include all of these."""
        missing = [] if self.sites is None else sorted(set(sites) - self.sites)
        if missing:
            raise self._site_wrong(what, f"site {', '.join(missing)}")

    def check_any_site(self, sites: Iterable[str], what: str) -> None:
        """Raises Refused unless at least one of these is this person's."""
        known = sorted(set(sites))
        if not self.sees_any(known):
            raise self._site_wrong(what, f"one of its sites ({', '.join(known)})")

    def check_everywhere(self, what: str) -> None:
        """Raises Refused unless this person is of all sites: for what cannot be divided by site."""
        if self.sites is not None:
            raise self._site_wrong(what, "all sites")

    def _site_wrong(self, what: str, needed: str) -> Refused:
        mine = ", ".join(sorted(self.sites or ()))
        return Refused(
            f"{what} needs {needed}; {self.name} ({self.role}) is of site {mine}", code="site_wrong", person=self
        )
