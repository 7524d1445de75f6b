"""The demo's story: each chapter does something real and waits until the system has done its part."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from edgewise.apps.demo._drill import Drill
from edgewise.apps.demo._fleet import Plant
from edgewise.apps.demo._work import STEP_S_MAX, Work
from edgewise.apps.factory.plants import Picture
from edgewise.apps.processes import wait_until
from edgewise.ports import read_bundle
from edgewise.wire import EdgewiseError

SWITCHING = ("staged", "trial")  # phases between the first visible change and the commit


@dataclass(slots=True)
class Round:
    """What one turn of the loop did."""

    number: int
    release: str
    bundle: str
    labels_used: int
    bytes_uploaded: int
    sample_bytes: int
    seconds: float
    gate: str
    gate_reasons: tuple[str, ...]
    decisions: int
    bytes_decided: int
    samples: tuple[str, ...] = ()  # names of the pictures that were labelled


@dataclass(slots=True)
class Proofs:
    """What chapters 5 to 7 showed; the report's sections of the same names."""

    offline: dict[str, Any] = field(default_factory=dict)
    power_cut: dict[str, Any] = field(default_factory=dict)
    bad_candidate: dict[str, Any] = field(default_factory=dict)


class Story:
    """The plants, what each chapter showed, and the rounds."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.plan = work.plan
        self.installation = work.installation
        self.timeline = work.timeline
        self.plants: dict[str, Plant] = {}
        self.proofs = Proofs()
        self.rounds: list[Round] = []
        self.bytes_decided: dict[int, int] = {}  # file bytes of a round's pictures
        self.first_labels = 0
        self.first_release_id = ""
        self._bytes_before = 0
        self._started_at = datetime.now(UTC) - timedelta(seconds=self.timeline.now_s)

    def close(self) -> None:
        """Give back the plants' connections; their processes belong to the installation."""
        for plant in self.plants.values():
            plant.close()

    def first_release(self) -> str:
        """Import the first pictures with their labels, train, gate, sign, roll out; comes back with the bundle.

        The devices enrol while the worker trains.
        """
        certain = [picture for picture in self.plan.first if not picture.uncertain]
        self.work.import_pictures(certain)
        self.timeline.say("person", f"{len(certain)} labelled pictures of {certain[0].plant} imported")
        order = self.work.triggered_order("the first model")
        self._enrol()
        candidate = self.work.candidate(order["id"])
        release = self.work.released(candidate)
        self._rolled_out(release["id"])
        self.first_labels, self.first_release_id = len(certain), str(release["id"])
        self._bytes_before = self.work.bytes_received()
        return candidate

    def drill(self, rollout: Mapping[str, Any]) -> None:
        """The chapter of the bad candidate. Where no candidate passed after round 1, its switch meets the power cut."""
        cut_power = None if self.proofs.power_cut else self._cut_power
        self.proofs.bad_candidate = Drill(self.work, self.plants, rollout=rollout, cut_power=cut_power).run()

    def _enrol(self) -> None:
        self.timeline.doing("devices enrol")
        for name in self.plan.plants:
            self.plants[name] = Plant(name, self.work)
        with ThreadPoolExecutor(len(self.plants)) as pool:
            list(pool.map(_join, self.plants.values()))
        for name, plant in self.plants.items():
            self.timeline.say(name, f"{plant.device} is enrolled; its agent answers on {plant.url}")

    def round(self, number: int, *, offline: str | None = None, power_cut: str | None = None) -> Round:
        """One turn: decide, keep, send, label, train, gate, sign, roll out."""
        started = self.timeline.now_s
        pictures = self.plan.of_round(number)
        decided = [one for items in pictures.values() for one in items]
        self.bytes_decided[number] = sum(len(one.data) for one in decided)
        self._decide(pictures, offline=offline)
        labelled = self.work.label_waiting()
        order = self.work.triggered_order(f"round {number}: {len(labelled)} new labels")
        candidate = self.work.candidate(order["id"])
        verdict = self.work.verdict(candidate)
        release_id = self.work.current_release()
        if verdict["result"] == "passed":
            release_id = self.work.released(candidate)["id"]
            self._rolled_out(release_id, power_cut=power_cut)
        else:
            self.timeline.say(
                "hub", f"the gate says {verdict['result']}: {'; '.join(verdict['reasons'][:2])}; the champion stays"
            )
        now = self.work.bytes_received()
        done = Round(
            number=number,
            release=release_id,
            bundle=self.work.bundle_of(release_id),
            labels_used=len(labelled),
            bytes_uploaded=now - self._bytes_before,
            sample_bytes=sum(len(self.plan.by_name[name].data) for name in labelled),
            seconds=self.timeline.now_s - started,
            gate=verdict["result"],
            gate_reasons=tuple(verdict["reasons"]),
            decisions=len(decided),
            bytes_decided=self.bytes_decided[number],
            samples=tuple(labelled),
        )
        self._bytes_before = now
        self.rounds.append(done)
        return done

    def _decide(self, pictures: dict[str, tuple[Picture, ...]], offline: str | None) -> None:
        before = self.plants[offline].status().get("decisions", 0) if offline else 0
        from_s = self.timeline.now_s
        if offline:
            self.plants[offline].cut_link()
            self.timeline.say(offline, "the link is cut")
        for name, items in pictures.items():
            self.plants[name].feed(items)
        for plant in self.plants.values():
            self.timeline.doing(f"{plant.name} decides")
            plant.wait_decided()
        if offline:
            self._end_offline(self.plants[offline], before, from_s)
        for plant in self.plants.values():
            self.timeline.doing(f"{plant.name} sends what it kept")
            plant.wait_sent()
        said = ", ".join(f"{name} {len(items)}" for name, items in pictures.items())
        self.timeline.say("edge", f"decided on {sum(len(items) for items in pictures.values())} pictures ({said})")

    def _end_offline(self, plant: Plant, before: int, from_s: float) -> None:
        made = plant.status()["decisions"] - before
        until_s = self.timeline.now_s
        doubled_before = self.work.overview()["intake"]["duplicates"]
        self.timeline.say(plant.name, f"{made} decisions without a link; the link is back")
        plant.heal_link()
        plant.wait_sent()
        kept = set(plant.status()["made_ids"])
        lost = len(kept - self.work.records_of(plant.device))
        doubled = self.work.overview()["intake"]["duplicates"] - doubled_before
        self.proofs.offline = {
            "device": plant.device,
            "decisions_made": made,
            "records_made": len(kept),
            "records_lost": lost,
            "records_duplicated": doubled,
            "from_s": round(from_s, 2),
            "until_s": round(until_s, 2),
        }
        self.timeline.say("hub", f"{len(kept)} records of {plant.device}: {lost} lost, {doubled} doubled")

    def runs(self) -> list[dict[str, Any]]:
        """Which release ran on which device from when to when, for the report's plot of the waves."""
        found: list[dict[str, Any]] = []
        running: dict[str, dict[str, Any]] = {}
        for rollout in reversed(self.work.rows("/rollouts", use_case=self.work.use_case.name)):
            for device, wave, since in _commits(rollout):
                at_s = self._second(since)
                if device in running:
                    running[device]["until_s"] = at_s
                bad = rollout["release"] == self.proofs.bad_candidate.get("release")
                running[device] = {
                    "device": device,
                    "release": rollout["release"],
                    "from_s": at_s,
                    "wave": wave,
                    "bad": bad,
                }
                found.append(running[device])
            if rollout["state"] == "reverted" and rollout["finished_at"]:
                self._end_runs(rollout, running, found)
        return found

    def _end_runs(
        self, rollout: dict[str, Any], running: dict[str, dict[str, Any]], found: list[dict[str, Any]]
    ) -> None:
        at_s = self._second(rollout["finished_at"])
        for device in rollout["devices_exposed"]:
            if device in running:
                running[device]["until_s"] = at_s
            running[device] = {"device": device, "release": rollout["returned_to"], "from_s": at_s}
            found.append(running[device])

    def _second(self, at: str) -> float:
        """A time of the hub's clock as seconds since the demo's start."""
        return round(max((datetime.fromisoformat(at) - self._started_at).total_seconds(), 0.0), 2)

    def _rolled_out(self, release: str, *, power_cut: str | None = None) -> None:
        """Wait until the release's rollout has finished on every device, with a power cut on one of them if wanted."""
        seen: dict[str, Any] = {}

        def finished() -> bool:
            rows = self.work.rows("/rollouts", release=release)
            seen.update(rows[0] if rows else {})
            self.timeline.doing(f"{release} rolls out: wave {seen.get('wave', '–')}")
            if seen.get("state") in ("reverted", "aborted"):
                raise EdgewiseError(f"the rollout of {release} was {seen['state']}: {seen.get('reason')}")
            return seen.get("state") == "finished"

        if power_cut:
            self._cut_power(self.plants[power_cut], release)
        self.work.wait(finished, f"the rollout of {release} did not finish")
        self.timeline.say("hub", f"{release} runs on all {len(self.plants)} devices")

    def _cut_power(self, plant: Plant, release: str) -> None:
        """Kill the agent in the middle of its switch, start it again, and check every byte of what it runs."""
        phase: list[str] = []

        def switching() -> bool:
            phase[:] = [str(plant.status().get("phase", ""))]
            return phase[0] in SWITCHING

        wait_until(switching, f"{plant.device} did not switch to {release}", wait_s_max=STEP_S_MAX, poll_s=0.002)
        plant.power_cut()
        at_s = self.timeline.now_s
        self.timeline.say(plant.name, f"power cut in phase {phase[0]} (SIGKILL)")
        plant.start()
        wait_until(lambda: bool(plant.status().get("bundle")), f"{plant.device} did not come back", wait_s_max=60)
        bundle = str(plant.status()["bundle"])
        whole = self._whole(plant, bundle)
        self.proofs.power_cut = {
            "device": plant.device,
            "phase": phase[0],
            "bundle": bundle,
            "bundle_whole": whole,
            "at_s": round(at_s, 2),
        }
        self.timeline.say(plant.name, f"back with bundle {bundle[:12]}, {'whole' if whole else 'BROKEN'}")

    def _whole(self, plant: Plant, bundle: str) -> bool:
        """Is the running bundle on disk, every blob of it with the digest that the manifest names?"""
        slots = [folder for folder in (plant.folder / "slots").iterdir() if (folder / "manifest.json").is_file()]
        for slot in slots:
            try:
                if read_bundle(slot).digest == bundle:
                    return True
            except EdgewiseError:
                continue
        return False


def _commits(rollout: dict[str, Any]) -> list[tuple[str, int, str]]:
    """(device, wave, time) of each commit of this rollout; of a device that went back, its wave's opening."""
    found = []
    for wave in rollout["waves"]:
        for device in wave["devices"]:
            since = device["committed_at"] or (
                wave["opened_at"] if device["device"] in rollout["devices_exposed"] else None
            )
            found.extend([(device["device"], wave["wave"], since)] if since else [])
    return found


def _join(plant: Plant) -> None:
    """Enrol a plant's device and start its agent."""
    plant.enrol()
    plant.start()
