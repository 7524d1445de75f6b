"""What the demo shows while it runs: a readable timeline, and a bar for what takes long."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

COLOURS = {"hub": "cyan", "worker": "magenta", "signer": "yellow", "person": "green", "report": "blue", "demo": "white"}
WHO_WIDTH = 8


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened, `at_s` seconds after the demo's start."""

    at_s: float
    who: str
    text: str


@dataclass(slots=True)
class Timeline:
    """Prints moments as they come and keeps them for the report."""

    console: Console = field(default_factory=lambda: Console(highlight=False))
    started: float = field(default_factory=time.monotonic)
    moments: list[Moment] = field(default_factory=list)
    _bar: Progress | None = None
    _task: Any = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(24), TimeElapsedColumn())
            self._bar = Progress(*columns, console=self.console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task("", total=1.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    @property
    def now_s(self) -> float:
        return time.monotonic() - self.started

    def say(self, who: str, text: str) -> None:
        moment = Moment(self.now_s, who, text)
        self.moments.append(moment)
        colour = COLOURS.get(who, "bright_blue")
        self.console.print(f"[dim]{moment.at_s:6.1f} s[/dim]  [{colour}]{who:<{WHO_WIDTH}}[/{colour}]  {escape(text)}")

    def head(self, text: str) -> None:
        """A new chapter."""
        self.moments.append(Moment(self.now_s, "demo", text))
        self.console.print(f"\n[bold]{escape(text)}[/bold]")

    def doing(self, text: str, share: float | None = None) -> None:
        """What takes time now, and how far it is (0 to 1) where that is known."""
        if self._bar:
            self._bar.update(
                self._task, description=escape(text), completed=share or 0.0, total=None if share is None else 1.0
            )
