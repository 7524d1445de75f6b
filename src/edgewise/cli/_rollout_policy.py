"""A rollout policy from options and a file, as the API takes it. Names of options follow the fields of the policy."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Any

import typer

RELEASE = typer.Argument(..., help="the release, such as surface-inspection@2", show_default=False)
POLICY = typer.Option(None, "--policy", help="file with fields of the use case's rollout section; options win over it")
# By the field of the policy: its type on the command line, and the option.
OPTIONS: dict[str, tuple[Any, Any]] = {
    "select": (
        list[str],
        typer.Option([], "--select", help="who takes part: line=a, site=a,b, ram_mb>=512; repeat, all must hold"),
    ),
    "waves": (
        list[str],
        typer.Option(
            [], "--wave", help="devices in all (3), a share (25%), names (press-1,press-2), growth (10x2); repeat"
        ),
    ),
    "shadow": (
        str,
        typer.Option("", "--shadow", help="devices (5) or a share (20%) that first decide beside, without acting"),
    ),
    "approval": (str, typer.Option("", "--approval", help="person: somebody else lets it begin; or none")),
    "return_to": (str, typer.Option("", "--return-to", help="release to go back to, if not the one that runs now")),
    "starts_at": (
        str,
        typer.Option("", "--starts-at", help="nothing happens before, such as 2026-05-04T22:00+02:00"),
    ),
    "metered_bytes_max": (
        str,
        typer.Option("", "--metered-bytes-max", help="over links that cost money, such as 500MB"),
    ),
    "rate": (
        str,
        typer.Option("", "--rate", help="devices told in a minute: 10; or 10x2, doubled after every 10 that have it"),
    ),
    "bake_s": (float | None, typer.Option(None, "--bake-s", min=0, help="seconds to watch a wave before the next")),
    "bake_decisions_min": (
        int | None,
        typer.Option(None, "--bake-decisions-min", min=0, help="paired decisions a wave needs"),
    ),
    "trial_s": (float | None, typer.Option(None, "--trial-s", min=0, help="a device's own trial before it commits")),
    "failures_max": (
        int | None,
        typer.Option(None, "--failures-max", min=0, help="failed devices that are tolerated"),
    ),
    "success_share": (
        float | None,
        typer.Option(None, "--success-share", min=0, max=1, help="of a wave's devices that must commit"),
    ),
    "why": (str, typer.Option("", "--why", help="why it is rolled out; it goes into the audit log")),
}

OPS = {"=": "eq", "!=": "ne", ">=": "ge", "<=": "le", ">": "gt", "<": "lt"}
UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}


def with_policy(command: Callable[..., None]) -> Callable[..., None]:
    """The command with a release, a policy file and all options of a policy, which it gets as one `body` of the API."""
    own = [
        parameter.replace(kind=Parameter.KEYWORD_ONLY)
        for parameter in signature(command, eval_str=True).parameters.values()
        if parameter.name != "body"
    ]
    added = {"release": (str, RELEASE), "policy": (Path | None, POLICY), **OPTIONS}

    @wraps(command)
    def run(**given: Any) -> None:
        options = {name: given.pop(name) for name in OPTIONS}
        command(body=body_of(given.pop("release"), given.pop("policy"), options), **given)

    parameters = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=option, annotation=kind)
        for name, (kind, option) in added.items()
    ]
    run.__signature__ = Signature([*parameters, *own])  # type: ignore[attr-defined]
    run.__annotations__ = {item.name: item.annotation for item in (*parameters, *own)}
    del run.__wrapped__
    return run


def body_of(release: str, policy: Path | None, options: dict[str, Any]) -> dict[str, Any]:
    """What POST /rollouts takes.

    Args:
        policy: a file with fields of the policy.
        options: by the name of their field; those that are empty or None were not given.
    Raises:
        NotValid: a mistake in the file, with its line.
        BadParameter: an option that says nothing of the kind.
    """
    body: dict[str, Any] = {"release": release}
    if policy is not None:
        from edgewise.hub import read_policy
        from edgewise.wire import NotValid

        try:
            body |= read_policy(policy.read_bytes(), name=str(policy))
        except FileNotFoundError:
            raise NotValid(f"there is no file {policy}; give the policy's own path", code="file_missing") from None
    readers = {
        "select": lambda texts: [condition(text) for text in texts],
        "waves": lambda texts: [wave(text) for text in texts],
        "shadow": shadow,
        "starts_at": moment,
        "metered_bytes_max": bytes_of,
        "rate": rate,
    }
    for name, value in options.items():
        if value not in (None, "", []):
            body[name] = readers[name](value) if name in readers else value
    return body


def wave(text: str) -> dict[str, Any]:
    """A wave.

    >>> wave("3"), wave("25%"), wave("press-1,press-2")
    ({'devices': 3}, {'percent': 25.0}, {'named': ['press-1', 'press-2']})
    >>> wave("10x2"), wave("press-1")
    ({'devices': 10, 'growth': 2.0}, {'named': ['press-1']})
    """
    size, growth = text, None
    if found := re.fullmatch(r"(\d+|[\d.]+%)x([\d.]+)", text):
        size, growth = found[1], _number(found[2], text, "--wave")
    made = _size(size)
    if made is None:
        names = [name.strip() for name in text.split(",")]
        if not all(re.fullmatch(r"[\w.:@-]+", name) for name in names):
            raise typer.BadParameter(
                f"--wave {text!r}: a wave is a number of devices (3), a share (25%), names (press-1,press-2), or a "
                "number or share that grows (10x2)"
            )
        return {"named": names}
    return made if growth is None else {**made, "growth": growth}


def shadow(text: str) -> dict[str, Any]:
    """The shadow stage: so many devices, or a share.

    >>> shadow("20%")
    {'percent': 20.0}
    """
    made = _size(text)
    if made is None:
        raise typer.BadParameter(f"--shadow {text!r}: it is a number of devices (5) or a share of them (20%)")
    return made


def condition(text: str) -> dict[str, Any]:
    """A condition on a label or fact. Text that looks like a number is taken as text in quotes.

    >>> condition("line=a"), condition("ram_mb >= 512")
    ({'fact': 'line', 'op': 'eq', 'value': 'a'}, {'fact': 'ram_mb', 'op': 'ge', 'value': 512})
    >>> condition("site!=a,b"), condition('rack="3"')
    ({'fact': 'site', 'op': 'not_in', 'value': ['a', 'b']}, {'fact': 'rack', 'op': 'eq', 'value': '3'})
    """
    found = re.fullmatch(r"\s*([\w.:-]+?)\s*(!=|>=|<=|=|>|<)\s*(\S.*?)\s*", text)
    if found is None:
        raise typer.BadParameter(f"--select {text!r}: a condition is a label or fact, one of = != >= <= > <, a value")
    fact, sign, value = found.groups()
    if "," in value and sign in ("=", "!="):
        values = [_value(part.strip()) for part in value.split(",")]
        if not all(isinstance(part, str) for part in values) and not all(type(part) in (int, float) for part in values):
            values = [part.strip() for part in value.split(",")]
        return {"fact": fact, "op": "in" if sign == "=" else "not_in", "value": values}
    return {"fact": fact, "op": OPS[sign], "value": _value(value)}


def rate(text: str) -> dict[str, Any]:
    """How fast devices are told.

    >>> rate("10"), rate("2.5x2")
    ({'per_minute': 10.0}, {'per_minute': 2.5, 'growth': 2.0})
    """
    first, _, growth = text.partition("x")
    made = {"per_minute": _number(first, text, "--rate")}
    return {**made, "growth": _number(growth, text, "--rate")} if growth else made


def bytes_of(text: str) -> int:
    """A number of bytes.

    >>> bytes_of("500MB"), bytes_of("1.5 GB"), bytes_of("1000")
    (500000000, 1500000000, 1000)
    """
    found = re.fullmatch(r"([\d.]+)\s*(|kb|mb|gb)", text.strip().lower())
    if found is None:
        raise typer.BadParameter(
            f"--metered-bytes-max {text!r}: bytes are a number, with kB, MB or GB after it (500MB)"
        )
    return round(_number(found[1], text, "--metered-bytes-max") * UNITS[found[2]])


def moment(text: str) -> str:
    """A time with its zone, in RFC 3339.

    >>> moment("2026-05-04T22:00+02:00")
    '2026-05-04T22:00:00+02:00'
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise typer.BadParameter(f"{text!r} is no time with a zone; write it as 2026-05-04T22:00+02:00 or …T20:00Z")
    return at.isoformat()


def _size(text: str) -> dict[str, Any] | None:
    if text.isascii() and text.isdecimal():
        return {"devices": int(text)}
    if re.fullmatch(r"\d+(\.\d+)?%", text):
        return {"percent": float(text[:-1])}
    return None


def _number(text: str, whole: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{option} {whole!r}: {text!r} is no number") from None


def _value(text: str) -> str | int | float | bool:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
