"""The drill: a deliberately bad candidate meets the gate, the signer, a person's override, and a fleet that reverts."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from edgewise.apps.demo._fleet import Plant
from edgewise.apps.demo._work import LOOK_S, PERSON, STEP_S_MAX, Work
from edgewise.apps.factory.plants import Picture
from edgewise.apps.processes import Process, wait_until
from edgewise.wire import NotNow

OVERRIDE = "drill: prove that the fleet reverts a bad release by itself"
BATCH = 4  # pictures a camera takes between two looks of the labelling person


class Drill:
    """One bad candidate from training to revert.

    Args:
        rollout: overrides of the use case's rollout policy.
        cut_power: called with the first device's plant and the release while it switches; None for no power cut.
    """

    def __init__(
        self,
        work: Work,
        plants: Mapping[str, Plant],
        *,
        rollout: Mapping[str, Any],
        cut_power: Callable[[Plant, str], None] | None,
    ) -> None:
        self.work = work
        self.api = work.api
        self.timeline = work.timeline
        self.plants = plants
        self._rollout = rollout
        self._cut_power = cut_power

    def run(self) -> dict[str, Any]:
        """Train on flipped labels: the gate stops it, the signer refuses, a person overrides, the fleet reverts."""
        before = self.work.current_release()
        order = self.work.order("drill: good and defective swapped in training", config={"fault": "flip-good"})
        candidate = self.work.candidate(order["id"])
        # The drill's labels would train a newer release, which would supersede the drill's: the worker rests.
        self.work.installation.stop_worker()
        verdict = self.work.verdict(candidate)
        self.timeline.say("hub", f"the gate says {verdict['result']}: {verdict['reasons'][0]}")
        refusal = self._push_again(candidate)
        self.timeline.say("signer", f"refused: {refusal}")
        release = self._override(candidate)
        canary = self._canary(verdict)
        waves = [{"named": [canary.device]}, {"percent": 100}]
        rollout = self.api.post("/rollouts", {"release": release, "why": OVERRIDE, "waves": waves, **self._rollout})
        self.timeline.say("person", f"{release} is rolled out against the gate's word")
        started_s = self.timeline.now_s
        if self._cut_power:
            self._cut_power(canary, release)
        status = self._watch_drill(rollout["id"])
        decided = status["decided_on"] or {}
        self.timeline.say("hub", f"{release} {status['state']}: {status['reason']}")
        return {
            "stopped_by_gate": verdict["result"] != "passed",
            "gate_reasons": verdict["reasons"],
            "signer_refused": bool(refusal),
            "signer_refusal": refusal,
            "release": release,
            "override_reason": OVERRIDE,
            "signed_by": PERSON,
            "reverted": status["state"] == "reverted",
            "reason": status["reason"],
            "devices": status["devices_exposed"],
            "devices_exposed": len(status["devices_exposed"]),
            "decisions_until_revert": decided.get("paired"),
            "labels_until_revert": decided.get("labels"),
            "wins": decided.get("wins"),
            "losses": decided.get("losses"),
            "e_value": decided.get("e_value"),
            "revert_at": status["e_bound"],
            "returned_to": status["returned_to"] or before,
            "seconds_until_revert": round(self.timeline.now_s - started_s, 1),
            "evidence": [
                {"decisions": decisions, "labels": labels, "e_value": e_value}
                for _, decisions, labels, e_value in status["history"]
            ],
        }

    def _canary(self, verdict: Mapping[str, Any]) -> Plant:
        """The plant where the running release is best by the gate's numbers: there a worse one shows soonest."""
        site = best_judged(verdict["sites"], self.plants)
        self.timeline.say("person", f"{site['site']} is the canary: {site['champion']:.2f} there now, the best judged")
        return self.plants[site["site"]]

    def _push_again(self, bundle: str) -> str:
        request = self.api.post("/signing", {"bundle": bundle})
        found: list[str] = []

        def refused() -> bool:
            rows = [row for row in self.api.get("/signing", state="refused") if row["id"] == request["id"]]
            found.extend(str(row["reason"]) for row in rows)
            return bool(found)

        wait_until(refused, "the signer did not answer", wait_s_max=STEP_S_MAX, poll_s=0.1)
        return found[0]

    def _override(self, bundle: str) -> str:
        arguments = [
            "release", "sign", bundle, "--override", OVERRIDE, "--who", PERSON,
            "--key", str(self.work.installation.release_keys), "--hub", self.work.installation.url,
            "--data-dir", str(self.work.installation.hub_dir),
        ]  # fmt: skip
        signing = Process("override", arguments, self.work.installation.log("override")).start()
        release = signing.wait_for(r"(\S+) \([^)]*\) is signed \(override\)")[1]
        self.timeline.say("person", f"{release} signed with the release key and a reason (audited)")
        return release

    def _watch_drill(self, rollout: str) -> dict[str, Any]:
        """Cameras go on; each disagreement that reaches the hub is labelled; until the fleet is back."""
        cameras = {name: self._endless(name) for name in self.plants}
        end = self.timeline.now_s + STEP_S_MAX
        while self.timeline.now_s < end:
            status = dict(self.api.get(f"/rollouts/{rollout}"))
            if status["state"] not in ("running", "paused", "reverting"):
                return status
            self.timeline.doing(
                f"drill: {status['state']}, {status['paired']} paired decisions, e-value {status['e_value']:.3g}"
            )
            self._drill_step(status, cameras)
            self.work.label_waiting(quiet=True)
        raise NotNow(f"the drill's rollout {rollout} did not end within {STEP_S_MAX:g} s", code="too_slow")

    def _drill_step(self, status: dict[str, Any], cameras: dict[str, Iterator[Picture]]) -> None:
        """Cameras of the devices that have the release take some pictures; without such a device, time passes."""
        baking = [plant for plant in self.plants.values() if plant.device in status["devices_committed"]]
        if status["state"] != "running" or not baking:
            time.sleep(LOOK_S)
            return
        for plant in baking:
            plant.feed([next(cameras[plant.name]) for _ in range(BATCH)])
            plant.wait_decided()

    def _endless(self, plant: str) -> Iterator[Picture]:
        """The plant's fresh pictures, then the line goes round again with parts it has seen."""
        while True:
            yield from self.work.plan.reserve[plant]
            for items in self.work.plan.stream[plant]:
                yield from items


def best_judged(sites: Iterable[Mapping[str, Any]], plants: Collection[str]) -> Mapping[str, Any]:
    """The site of a verdict where the champion is best, among those on which the gate could say anything.

    A site that the gate calls inconclusive has few samples, and a champion that was right on two of them is no canary.

    >>> few = {"site": "east", "result": "inconclusive", "champion": 1.0}
    >>> many = {"site": "north", "result": "failed", "champion": 0.95}
    >>> best_judged([few, many], {"east", "north"})["site"]
    'north'
    """
    known = [site for site in sites if site["champion"] is not None and site["site"] in plants]
    return max(known, key=lambda site: (site["result"] != "inconclusive", float(site["champion"])))
