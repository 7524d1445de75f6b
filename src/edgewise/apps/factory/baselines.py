"""What the loop is compared with: random upload at equal bytes and labels, and training on everything.

Both begin from the loop's own first network and use its recipe: warm start, new and old pictures half and half, the
same seed and settings; they replay all of the first network's pictures, the loop only those that its gate did not keep.
They run in a child process on one thread, beside the loop; the child rebuilds the plan from the
seed, so only numbers travel. Neither passes a gate. Random upload pays for an evaluation share as the loop does;
everything is trained on all of it, as an upper bound.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import numpy as np

from edgewise.apps.factory._chains import (
    KINDS,
    Chain,
    ConfigValue,
    Kind,
    Use,
    random_choice,
    set_aside,
    use_of,
    uses_of,
)
from edgewise.apps.factory.holdout import Holdout
from edgewise.apps.factory.plants import Picture, Plan, make_plan
from edgewise.ports import read_bundle
from edgewise.wire import EdgewiseError, NotNow

__all__ = ["KINDS", "Baselines", "Kind", "Use", "uses_of"]

RESULTS = "baselines.jsonl"
LOG = "baselines.log"
POLL_S = 0.1
Uses = Mapping[str, Use]


@dataclass(slots=True)
class Selection:
    """Which pictures a baseline has in each round; what it could not spend in one round it keeps for the next."""

    plan: Plan
    kind: Kind
    _room: dict[str, Use] = field(default_factory=dict)

    def of_round(self, number: int, uses: Uses) -> list[Picture]:
        """The pictures that it trains on in this round (counted from 1)."""
        pictures = self.plan.of_round(number)
        if self.kind == "everything":
            return [one for plant in self.plan.plants for one in pictures[plant] if not one.uncertain]
        chosen: list[Picture] = []
        for index, plant in enumerate(self.plan.plants):
            room = self._room.get(plant, Use()) + uses.get(plant, Use())
            rng = np.random.Generator(np.random.PCG64([self.plan.seed, 40, number, index]))
            drawn = random_choice(pictures[plant], room, rng)
            self._room[plant] = room - use_of(drawn)
            chosen += drawn
        return set_aside(chosen)


class Baselines:
    """The child process that trains the baselines.

    Args:
        plan: the loop's plan.
        first: folder of the loop's first bundle.
        folder: where the child's results and log go.
        config: settings of the loop's training orders.
        every_round: train and measure after every round; else once at the end, on all rounds' pictures at once and with
            a time budget (`seconds`) of as many rounds.
    """

    def __init__(
        self, plan: Plan, first: Path, folder: Path, *, config: Mapping[str, ConfigValue], every_round: bool = True
    ) -> None:
        self._plan = plan
        self._results = folder / RESULTS
        self._log = folder / LOG
        self._waiting: set[tuple[int, str]] = set()
        self._every_round = every_round
        folder.mkdir(parents=True, exist_ok=True)
        self._results.write_text("")
        order = {
            "data_root": str(plan.data_root) if plan.data_root else None,
            "seed": plan.seed,
            "rounds": plan.rounds,
            "size": plan.size,
            "first": str(first),
            "config": dict(config),
            "every_round": every_round,
            "results": str(self._results),
        }
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "edgewise.apps.factory.baselines"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                start_new_session=True,
                text=True,
            )
        self._say(order)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def submit(self, number: int, names: Sequence[str]) -> None:
        """Tell what the loop labelled in a round (counted from 1), in the order of rounds; the child starts on it."""
        uses = uses_of(self._plan, names)
        self._say({"round": number, "uses": {plant: [use.pictures, use.size_bytes] for plant, use in uses.items()}})
        if self._every_round or number == self._plan.rounds:
            self._waiting.update((number, kind) for kind in KINDS)

    def results(self) -> dict[int, dict[str, dict[str, float | None]]]:
        """What is measured so far: by round, then `random` or `everything`, then measure."""
        found: dict[int, dict[str, dict[str, float | None]]] = {}
        for line in self._results.read_text().splitlines():
            row = json.loads(line)
            found.setdefault(row["round"], {})[row["kind"]] = row["values"]
        return found

    def wait(self, *, wait_s_max: float) -> dict[int, dict[str, dict[str, float | None]]]:
        """The results once everything that was submitted is measured.

        Raises:
            EdgewiseError: the child ended without them; the message carries its last lines.
            NotNow: not within the time.
        """
        end = time.monotonic() + wait_s_max
        while missing := self._waiting - {(number, kind) for number, kinds in self.results().items() for kind in kinds}:
            if self._child.poll() is not None:
                words = " / ".join(self._log.read_text(errors="replace").strip().splitlines()[-5:])
                raise EdgewiseError(f"the baselines ended with exit code {self._child.returncode}: {words}")
            if time.monotonic() > end:
                raise NotNow(f"{len(missing)} baselines are not trained within {wait_s_max:g} s", code="too_slow")
            time.sleep(POLL_S)
        return self.results()

    def close(self) -> None:
        """End the child, whatever it does."""
        if self._child.stdin and not self._child.stdin.closed:
            # A child that ended before it read everything breaks the pipe; nothing is lost that it could still use.
            with contextlib.suppress(BrokenPipeError):
                self._child.stdin.close()
        if self._child.poll() is None:
            self._child.terminate()
        self._child.wait()

    def _say(self, value: Any) -> None:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps(value) + "\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            # `wait` reports how it ended, with the child's own words; here nothing can be done about it.
            return


def serve(lines: TextIO) -> None:
    """The child's work: the order on the first line, then one line a round."""
    order = json.loads(lines.readline())
    plan = make_plan(order["data_root"], seed=order["seed"], rounds=order["rounds"], size=order["size"])
    first = read_bundle(Path(order["first"]))
    holdout = Holdout(plan)
    config = order["config"]
    selections = {kind: Selection(plan=plan, kind=kind) for kind in KINDS}
    chains = {kind: Chain(plan=plan, bundle=first, config=config, learned=list(plan.first)) for kind in KINDS}
    gathered: dict[Kind, list[Picture]] = {kind: [] for kind in KINDS}
    for line in lines:
        row = json.loads(line)
        number = row["round"]
        uses = {plant: Use(pictures=use[0], size_bytes=use[1]) for plant, use in row["uses"].items()}
        for kind in KINDS:
            gathered[kind] += selections[kind].of_round(number, uses)
            if not order["every_round"] and number < plan.rounds:
                continue
            if not order["every_round"] and "seconds" in config:
                chains[kind].config = {**config, "seconds": config["seconds"] * plan.rounds}
            bundle = chains[kind].step(gathered[kind])
            gathered[kind] = []
            quality = holdout.score(bundle).quality
            values = {name: one["value"] for name, one in quality.items()}
            with Path(order["results"]).open("a") as results:
                results.write(json.dumps({"round": number, "kind": kind, "values": values}) + "\n")


if __name__ == "__main__":
    serve(sys.stdin)
