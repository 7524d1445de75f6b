"""What ``edgewise learn sweep`` reads and prints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import typer
import yaml

from edgewise.cli._output import Format, show
from edgewise.learn import SweepPlan, Swept, read_plan
from edgewise.wire import NotValid

PLAN_BYTES_MAX = 64_000


def read_plan_file(path: Path) -> SweepPlan:
    """The plan of a YAML file.

    Raises:
        NotValid: it cannot be read, or what is wrong with it.
    """
    return read_plan(read_yaml(path, "a plan", "sweep_invalid"))


def read_yaml(path: Path, what: str, code: str) -> object:
    """The plain values of a short YAML file.

    Raises:
        NotValid: it cannot be read, is too long, or is no YAML.
    """
    try:
        text = path.read_bytes()[: PLAN_BYTES_MAX + 1]
        if len(text) > PLAN_BYTES_MAX:
            raise NotValid(f"{path} has more than {PLAN_BYTES_MAX} bytes; {what} is a few lines", code=code)
        return yaml.safe_load(text)
    except OSError as error:
        raise NotValid(f"{path} cannot be read: {error.strerror}; name a YAML file", code="file_unreadable") from None
    except yaml.YAMLError as error:
        raise NotValid(f"{path} is no YAML: {' '.join(str(error).split())[:300]}", code=code) from None


def show_swept(swept: Swept, form: Format) -> None:
    """All settings, the best first, and what the winner reached on the part that it was not chosen by."""
    if form is not Format.table:
        counts = dict(zip(("train", "compare", "confirm"), swept.counts, strict=True))
        told = {"bundle": swept.best.bundle.digest, "frozen": swept.frozen, "samples": counts}
        show({**told, "confirmed": list(swept.confirmed), "tried": [asdict(one) for one in swept.tried]}, form)
        return
    differing = [name for name in swept.tried[0].config if len({str(one.config[name]) for one in swept.tried}) > 1]
    rows = [
        {
            "setting": ", ".join(f"{name} {one.config[name]}" for name in differing) or "the only one",
            "recall": number(one.recall, one.low, one.high),
            "behind": number(*one.behind) if one.behind else "best" if one.recall is not None else "–",
            "seconds": f"{one.seconds:.1f}",
            "KB": f"{one.bytes / 1000:.0f}",
            "failed": one.errors[0] if one.errors else "",
        }
        for one in swept.tried
    ]
    names = ["setting", "recall", "behind", "seconds", "KB"]
    show(rows, form, [*names, "failed"] if any(one.errors for one in swept.tried) else names)
    typer.echo(f"the best on {swept.counts[2]} samples that it was not chosen by: {number(*swept.confirmed)}")


def number(value: float | None, low: float | None, high: float | None) -> str:
    """A value with its interval in points of a hundred.

    >>> number(0.5, 0.4, 0.65), number(None, None, None)
    ('50.0 (40.0 to 65.0)', '–')
    """
    if value is None:
        return "–"
    shown = f"{100 * value:.1f}"
    return shown if low is None or high is None else f"{shown} ({100 * low:.1f} to {100 * high:.1f})"
