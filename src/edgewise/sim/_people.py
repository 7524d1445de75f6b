"""The simulated people: one labels with delays and slips, one pushes a bad release although everybody warned."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from edgewise.hub import Hub, gate, labels, orders, rollouts, samples
from edgewise.hub.orders import OrderWish
from edgewise.hub.samples import ImportedSample
from edgewise.hub.store import champions, verdicts
from edgewise.hub.store import orders as order_rows
from edgewise.hub.store import rollouts as rollout_rows
from edgewise.ports import SeededChance
from edgewise.sim._log import EventLog
from edgewise.sim._signer import Signer
from edgewise.sim._trainer import FLIP
from edgewise.sim._world import FRAMES_A_PART, LABELS, NAME, SITES, Line
from edgewise.wire import NotValid

LOOK_MAX = 40  # samples that the labelling person sees at once
LABELS_MAX = 20  # and labels in one turn
DELAY_S = (45.0, 400.0)
SLIP = 0.01  # share of labels that are wrong
# A forced release is watched for longer: about fifteen of a device's hundred frames fit the upload budget, and the
# e-process needs nine or ten of them.
WATCHED = {"bake_decisions_min": 100}
FIRST_PARTS = 36  # a site, labelled before anything is trained


class Labeller:
    """Labels what the hub shows first, as long as it has waited for a while."""

    def __init__(self, hub: Hub, log: EventLog, chance: SeededChance, truths: Mapping[str, str]) -> None:
        self._hub = hub
        self._log = log
        self._chance = chance
        self._truths = truths
        self._ready_at: dict[str, datetime] = {}
        self.labelled = 0
        self.at_work = True

    def turn(self, now: datetime) -> None:
        """Label what has waited long enough."""
        if not self.at_work:
            return
        shown = labels.next_to_label(self._hub.store, NAME, limit=LOOK_MAX, now=self._hub.now())
        for item in shown:
            if item["sample"] not in self._ready_at:
                shortest, longest = DELAY_S
                wait_s = shortest + (longest - shortest) * self._chance.random()
                self._ready_at[item["sample"]] = now + timedelta(seconds=wait_s)
        ready = [item for item in shown if self._ready_at[item["sample"]] <= now][:LABELS_MAX]
        if not ready:
            return
        said = [(item["sample"], self._say(item["frame"])) for item in ready]
        new, _ = labels.set_labels(self._hub.store, said, who="labeller", now=now)
        self.labelled += new
        self._log.write(now, "labeller", "labelled", labels=said, why=[item["why"] for item in ready])

    def _say(self, frame: str) -> str:
        truth = self._truths[frame]
        return truth if self._chance.random() >= SLIP else LABELS[(LABELS.index(truth) + 1) % len(LABELS)]


def begin(hub: Hub, log: EventLog, seed: int, now: datetime) -> None:
    """Bring labelled parts of every site from before the first device, and order the first network."""
    wanted = []
    for site in SITES:
        line = Line(seed, f"archive-{site}", site, now)
        for _ in range(FIRST_PARTS * FRAMES_A_PART):
            part = line.make(now)
            wanted.append(
                ImportedSample(
                    use_case=NAME,
                    site=site,
                    frame=part.frame.name,
                    group=part.frame.group,
                    label=part.truth,
                    blob=hub.store.blobs.put(part.frame.data),
                    media_type=part.frame.media_type,
                    size_bytes=len(part.frame.data),
                    taken_at=now,
                )
            )
    samples.import_samples(hub.store, wanted, who="admin", now=now)
    log.write(now, "admin", "imported", samples=len(wanted))
    wish = OrderWish(use_case=NAME, why="the first network")
    orders.create(hub.store, wish, who="admin", now=now, chance=hub.chance, limits=hub.limits)


class Plot(StrEnum):
    """How far the operator got with the bad release."""

    WAITS = "waits"  # for its time, and for a fleet at rest
    ORDERED = "ordered"  # a network that learns the opposite
    PUSHED = "pushed"  # past the gate, to the signer
    FORCED = "forced"  # past the signer, with the release key


class Operator:
    """Orders a network that is confidently wrong and, when gate and signer refuse it, forces it onto the fleet.

    Args:
        starts_at: not before; and not before a release has finished its way to the fleet.
    """

    def __init__(self, hub: Hub, log: EventLog, signer: Signer, starts_at: datetime) -> None:
        self._hub = hub
        self._log = log
        self._signer = signer
        self._starts_at = starts_at
        self._order = ""
        self._bundle = ""
        self.plot = Plot.WAITS
        self.stopped_by_gate = False
        self.stopped_by_signer = False
        self.release = ""  # the bad one, once it was forced
        self.rollout = ""

    @property
    def busy(self) -> bool:
        """Whether the operator has something to do: its time has come, and the bad release is not rolled out yet."""
        waits = self.plot is Plot.WAITS
        return self._hub.now() >= self._starts_at if waits else self.plot is not Plot.FORCED

    def holds_the_worker(self) -> bool:
        """Whether no good release may come now: it would replace the bad one before that has shown what it is."""
        if self.plot is not Plot.FORCED:
            return self.plot is Plot.PUSHED
        with self._hub.store.read() as connection:
            row = rollout_rows.get(connection, self.rollout)
        return row is not None and row.state in rollout_rows.UNFINISHED

    def turn(self, now: datetime) -> None:
        """The next step of the plot, when it is due."""
        match self.plot:
            case Plot.WAITS:
                self._order_it(now)
            case Plot.ORDERED:
                self._push_it(now)
            case Plot.PUSHED:
                self._force_it(now)
            case Plot.FORCED:
                pass

    def _order_it(self, now: datetime) -> None:
        if now < self._starts_at or not self._fleet_rests():
            return
        wish = OrderWish(use_case=NAME, why="an operator's idea", config={FLIP: True})
        hub = self._hub
        try:
            order = orders.create(hub.store, wish, who="operator", now=now, chance=hub.chance, limits=hub.limits)
        except NotValid as error:
            if error.code != "order_open":
                raise
            return  # the worker is busy; asked again in the next turn
        self._order, self.plot = order.id, Plot.ORDERED
        self._log.write(now, "operator", "bad_ordered", order=order.id)

    def _fleet_rests(self) -> bool:
        """A release has finished and none is under way, so that there is something to return to."""
        with self._hub.store.read() as connection:
            found = rollout_rows.find(connection, use_case=NAME)
        return any(row.state == "finished" for row in found) and not _unfinished(found)

    def _push_it(self, now: datetime) -> None:
        with self._hub.store.read() as connection:
            row = order_rows.get(connection, self._order)
            bundle = None if row is None else row.bundle
            verdict = None if bundle is None else verdicts.newest_on(connection, bundle)
            state = None if row is None else row.state
        if state == order_rows.FAILED:
            self.plot = Plot.WAITS  # the worker died too often; ordered again
        if bundle is None or verdict is None:
            return
        self._bundle, self.stopped_by_gate = bundle, verdict.result != "passed"
        self._log.write(now, "operator", "bad_judged", bundle=bundle, result=verdict.result)
        hub = self._hub
        gate.ask_to_sign(hub.store, bundle, by="operator", why="I know better", now=now, chance=hub.chance)
        self.plot = Plot.PUSHED

    def _force_it(self, now: datetime) -> None:
        with self._hub.store.read() as connection:
            asked = verdicts.requests(connection, bundle=self._bundle, limit=1)
            champion = champions.champion(connection, NAME)
            training = order_rows.find(connection, use_case=NAME, states=(order_rows.CLAIMED,))
        if not asked or asked[0].state == verdicts.WAITING or training or not self._fleet_rests():
            return
        self.stopped_by_signer = asked[0].state == verdicts.REFUSED
        hub = self._hub
        release = self._signer.sign(self._bundle, None, now, override="the customer waits")
        row = rollouts.create(
            hub.store, release.id, WATCHED, who="operator", why="forced by hand", now=now, chance=hub.chance
        )
        self.release, self.rollout, self.plot = release.id, row.id, Plot.FORCED
        back = None if champion is None else champion.id
        self._log.write(now, "operator", "bad_forced", release=release.id, rollout=row.id, returns_to=back)


def _unfinished(found: list[rollout_rows.RolloutRow]) -> bool:
    return any(row.state in rollout_rows.UNFINISHED for row in found)
