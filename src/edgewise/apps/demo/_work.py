"""What the story asks of the hub: each call waits until the system has done its part, or says what it waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from edgewise.apps.demo._timeline import Timeline
from edgewise.apps.factory.plants import Picture, Plan
from edgewise.apps.processes import Installation, wait_until
from edgewise.ports import HubApi, open_manifest, write_bundle
from edgewise.wire import EdgewiseError, UseCase

PERSON = "demo"
STEP_S_MAX = 240.0  # one training, one gate, one rollout: each must end within this
LOOK_S = 0.1
TRIGGER_S_MAX = 20.0  # labelled pictures are first compared with all others, some hundred a second
PAGE = 1000
IMPORT_THREADS = 4
LABELS_MAX = 500


class Work:
    """The hub as the story's person uses it: import, label, wait for candidates, verdicts, releases."""

    def __init__(
        self, plan: Plan, use_case: UseCase, installation: Installation, api: HubApi, timeline: Timeline
    ) -> None:
        self.plan = plan
        self.use_case = use_case
        self.installation = installation
        self.api = api
        self.timeline = timeline

    def import_pictures(self, pictures: list[Picture]) -> None:
        """Bring labelled pictures to the hub, as a person does who has some already."""
        with ThreadPoolExecutor(IMPORT_THREADS) as pool:
            blobs = list(pool.map(self.api.put_blob, (picture.data for picture in pictures)))
        rows = [
            {
                "use_case": self.use_case.name,
                "site": picture.plant,
                "frame": picture.name,
                "group": picture.group,
                "label": picture.label,
                "blob": blob,
                "media_type": picture.media_type,
                "size_bytes": len(picture.data),
                "taken_at": picture.taken_at.isoformat(),
            }
            for picture, blob in zip(pictures, blobs, strict=True)
        ]
        self.api.post("/samples/import", {"samples": rows})

    def label_waiting(self, *, quiet: bool = False) -> list[str]:
        """Label what waits, with the truth; comes back with the pictures' names.

        Pictures whose label the data's authors doubt are left unlabelled, as a careful person would leave them.
        """
        names: list[str] = []
        while True:
            rows = self.api.get("/labels/next", use_case=self.use_case.name, limit=LABELS_MAX)
            pictures = {row["sample"]: self.plan.by_name[row["frame"].partition("_")[2]] for row in rows}
            certain = {sample: picture for sample, picture in pictures.items() if not picture.uncertain}
            if not certain:
                break
            truth = [{"sample": sample, "label": picture.label} for sample, picture in certain.items()]
            self.api.post("/labels", {"labels": truth})
            names.extend(picture.name for picture in certain.values())
        if names and not quiet:
            self.timeline.say("person", f"{len(names)} samples labelled")
        return names

    def triggered_order(self, why: str) -> dict[str, Any]:
        """The order that the new labels triggered, or one by hand where they were too few."""
        end = time.monotonic() + TRIGGER_S_MAX
        while time.monotonic() < end:
            waiting = [row for row in self.rows("/orders") if row["state"] in ("open", "claimed")]
            if waiting:
                self.timeline.say("hub", f"training order: {waiting[0]['order']['why']}")
                return dict(waiting[0])
            time.sleep(LOOK_S)
        return self.order(why)

    def order(self, why: str, **options: Any) -> dict[str, Any]:
        """A training order by hand."""
        body = {"use_case": self.use_case.name, "why": why, "seed": self.plan.seed, **options}
        return dict(self.api.post("/orders", body))

    def candidate(self, order: str) -> str:
        """Wait for the worker; comes back with the candidate's bundle digest."""
        found: list[str] = []

        def done() -> bool:
            row = next(one for one in self.rows("/orders") if one["id"] == order)
            self.timeline.doing(f"training ({row['state']})")
            if row["state"] == "failed":
                raise EdgewiseError(f"the training order failed: {row.get('error')}")
            found.extend([row["bundle"]] if row.get("bundle") else [])
            return bool(found)

        self.wait(done, "the worker did not return a candidate")
        self.timeline.say("worker", f"candidate {found[0][:12]} returned")
        return found[0]

    def verdict(self, bundle: str) -> dict[str, Any]:
        """Wait for the gate's word on a candidate."""
        found: list[dict[str, Any]] = []

        def judged() -> bool:
            found.extend(self.rows("/verdicts", use_case=self.use_case.name, candidate=bundle))
            return bool(found)

        self.timeline.doing("the gate judges")
        self.wait(judged, "the gate did not judge")
        return found[0]

    def released(self, bundle: str) -> dict[str, Any]:
        """Wait until the signer has signed a candidate that passed; comes back with the release."""
        found: list[dict[str, Any]] = []

        def signed() -> bool:
            found.extend(row for row in self.rows("/releases") if row["bundle"] == bundle)
            return bool(found)

        verdict = self.verdict(bundle)
        if verdict["result"] != "passed":
            raise EdgewiseError(f"the gate says {verdict['result']}: {'; '.join(verdict['reasons'])}")
        self.timeline.say("hub", f"the gate passed {bundle[:12]}")
        self.timeline.doing("the signer checks the evidence again")
        self.wait(signed, "the signer did not sign")
        self.timeline.say("signer", f"evidence computed again from bytes; {found[0]['id']} signed")
        return found[0]

    def fetch_bundle(self, digest: str, place: Path) -> Path:
        """A bundle as a folder of its own below `place`, for measuring on the hold-out."""
        folder = place / digest[:16]
        if not folder.is_dir():
            body = self.api.get_bytes(f"/bundles/{digest}/manifest")
            names = [blob.sha256 for blob in open_manifest(body)[0].blobs.values()]
            write_bundle(folder, body, {name: self.api.get_blob(name) for name in names})
        return folder

    def overview(self) -> dict[str, Any]:
        """The hub's counts, those of the use case merged in."""
        whole = dict(self.api.get("/overview"))
        mine = next(one for one in whole["use_cases"] if one["name"] == self.use_case.name)
        return {**whole, **mine}

    def bytes_received(self) -> int:
        """Everything that devices uploaded: contents of samples, and sealed segments of records."""
        seen = self.overview()
        return int(seen["bytes_received"]) + int(seen["intake"]["bytes"])

    def current_release(self) -> str:
        return str(self.overview()["champion"])

    def bundle_of(self, release: str) -> str:
        return str(next(row["bundle"] for row in self.rows("/releases") if row["id"] == release))

    def records_of(self, device: str) -> set[str]:
        """Ids of everything of this device that the hub holds."""
        found: list[str] = []
        while page := self.api.get(f"/devices/{device}/records", after=found[-1] if found else "", limit=PAGE):
            found.extend(page)
        return set(found)

    def rows(self, path: str, **query: Any) -> list[dict[str, Any]]:
        return list(self.api.get(path, **query))

    def wait(self, ready: Callable[[], bool], what: str) -> None:
        """Wait for something of the system's own, as long as all its processes run."""

        def alive() -> bool:
            if ended := self.installation.ended():
                raise EdgewiseError(ended)
            return ready()

        wait_until(alive, what, wait_s_max=STEP_S_MAX, poll_s=0.1)
