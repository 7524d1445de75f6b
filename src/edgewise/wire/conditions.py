"""Conditions are ``fact op value`` records; there is no expression language."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from edgewise.wire._record import Strict

Op = Literal["eq", "ne", "lt", "le", "gt", "ge", "in", "not_in"]


class Condition(Strict):
    """One test of a reported fact, such as ``battery_percent ge 40``. A fact that is not reported fails the test."""

    fact: str
    op: Op
    value: float | int | str | bool | list[str] | list[float]


def unmet(conditions: Iterable[Condition], facts: Mapping[str, Any]) -> list[str]:
    """The conditions that do not hold, each as a sentence; empty when all hold.

    >>> unmet([Condition(fact="battery_percent", op="ge", value=40)], {"battery_percent": 12})
    ['battery_percent is 12, needs ge 40']
    >>> unmet([Condition(fact="network", op="in", value=["wifi", "wired"])], {})
    ['network is not reported, needs in [wifi, wired]']
    """
    return [_sentence(condition, facts) for condition in conditions if not _holds(condition, facts)]


def _holds(condition: Condition, facts: Mapping[str, Any]) -> bool:
    if condition.fact not in facts:
        return False
    seen, value = facts[condition.fact], condition.value
    try:
        match condition.op:
            case "eq":
                return bool(seen == value)
            case "ne":
                return bool(seen != value)
            case "lt":
                return bool(seen < value)
            case "le":
                return bool(seen <= value)
            case "gt":
                return bool(seen > value)
            case "ge":
                return bool(seen >= value)
            case "in":
                return seen in (value if isinstance(value, list) else [value])
            case "not_in":
                return seen not in (value if isinstance(value, list) else [value])
    except TypeError:
        return False


def _sentence(condition: Condition, facts: Mapping[str, Any]) -> str:
    seen = facts.get(condition.fact, "not reported")
    value = condition.value
    shown = f"[{', '.join(str(item) for item in value)}]" if isinstance(value, list) else str(value)
    return f"{condition.fact} is {seen}, needs {condition.op} {shown}"
