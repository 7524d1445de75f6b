"""The device as a process: it runs until told to stop; and its status from files when it is off."""

from __future__ import annotations

import contextlib
import functools
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from edgewise import __version__
from edgewise.edge import _garbage
from edgewise.edge._agent_config import AgentConfig, load_config, log_files
from edgewise.edge._contact_memory import ContactMemory
from edgewise.edge._device_log import DeviceLog
from edgewise.edge._enrolment import enrol, load_identity
from edgewise.edge._facts import facts
from edgewise.edge._field import FieldSide
from edgewise.edge._folder_lock import is_locked, locked
from edgewise.edge._last_words import write_last_words
from edgewise.edge._offline import read_status
from edgewise.edge._opened import large_of, open_device
from edgewise.edge._period import Act
from edgewise.edge._pipeline_parts import parts_of
from edgewise.edge._rounds import Rounds
from edgewise.edge._say import Sayer
from edgewise.edge._source_text import settled
from edgewise.edge._watchdog import Watchdog
from edgewise.edge.apps import act_maker
from edgewise.edge.card import bring_card
from edgewise.edge.certificate import Renewal
from edgewise.edge.device import Device
from edgewise.ports import (
    Clock,
    Credentials,
    HttpLink,
    Stop,
    Supervisor,
    SystemChance,
    SystemClock,
    SystemdSupervisor,
    SystemFacts,
)
from edgewise.wire import SourceSpec

__all__ = [
    "Agent",
    "AgentConfig",
    "enrol",
    "facts",
    "is_locked",
    "large_of",
    "load_config",
    "load_identity",
    "locked",
    "log_files",
    "open_device",
    "run",
    "status",
]

BEAT_S_MAX = 30.0  # a decision loop that is silent for longer stands still
ERROR_PAUSE_S = 1.0
IDLE_S_MIN = 0.005  # first pause after a frame where a source cannot tell of the next one
FRAME_WAIT_S = 0.5  # then a period that is over ends, and a stop is noticed
HAND_OVER_WAIT_S = 0.5  # longest wait for a frame, so that a stop is noticed
STOP_S_MAX = 5.0  # threads that hang in a source or in the network must not keep a stop waiting for longer


class Agent:
    """A device with its threads: one for each pipeline's decisions, one for records, one for contacts and updates.

    Args:
        device: everything that is done.
        config: paces.
        clock: time.
        renewal: keeps the device's certificate fresh; None where it has none, as in tests.
        supervisor: hears that the agent is ready, how it does, and that the decision loop turns.
        log: the device's own log; in its folder where not given.
        field: sinks and sources under observation.
    """

    def __init__(
        self,
        device: Device,
        *,
        config: AgentConfig | None = None,
        clock: Clock | None = None,
        renewal: Renewal | None = None,
        supervisor: Supervisor | None = None,
        log: DeviceLog | None = None,
        field: FieldSide | None = None,
    ) -> None:
        self.device = device
        self._field = field
        self._supervisor = supervisor or SystemdSupervisor({})
        self._renewal = renewal
        self.config = config or AgentConfig()
        self._clock = clock or SystemClock()
        self._stop = threading.Event()
        self._asked = Stop()
        self._beats = dict.fromkeys(device.pipelines.names, time.monotonic())
        self._log = log or DeviceLog(log_files(device.folder, self.config), self._clock)
        self._sayer = Sayer(device.policy, log=self._log.add)
        pauses = {"pace_s": self.config.pace_s, "quiet_s_max": self.config.quiet_s_max}
        self._records, self._contacts = Rounds(**pauses), Rounds(**pauses)
        device.keeper.heard = self._heard
        device.news = self._ring
        device.contacts.heard = functools.partial(self._log.add, "contact")
        self._contacts_noted = ContactMemory(device.folder)
        self._link_error: str | None = None
        self._threads: list[threading.Thread] = []

    def is_alive(self) -> bool:
        """Whether a decision loop still turns. One that hangs in its source is no reason to stop the others."""
        return time.monotonic() - max(self._beats.values()) < BEAT_S_MAX

    def stop(self) -> None:
        """Come to an end soon. A signal handler may ask too."""
        self._asked.ask()

    def run(self) -> None:
        """Decide until told to stop, then record what is left."""
        self._start("record", self._record, self._records)
        self._log.add("agent", f"edgewise {__version__} runs: {self._sentence()}")
        if self._field is not None:
            self._field.voice.log = self._log.add
            self._field.start(self.device)
        self._start("contact", self._talk, self._contacts)
        for name in self.device.pipelines.names:
            self._begin(f"decide-{name}", functools.partial(self._decide, name))
        self._begin("beside", functools.partial(self._hand_over, "beside", self.device.beside_step))
        self._begin("norms", functools.partial(self._hand_over, "norms", self.device.norms_step))
        if self.device.cascade is not None:
            self._begin("defer", functools.partial(self._hand_over, "defer", self.device.defer_step))
        self._threads.append(self._watched())
        self._supervisor.tell(READY="1", STATUS=self._sentence())
        try:
            self._asked.wait()
        finally:
            self._supervisor.tell(STOPPING="1", STATUS="stops: what is decided is recorded")
            self._stop.set()
            self._ring()
            end = time.monotonic() + STOP_S_MAX
            for thread in self._threads:
                thread.join(timeout=max(0.0, end - time.monotonic()))
            self._close()
            self._log.add("agent", f"stopped: {self._sentence()}")
            self._log.flush(final=True)

    def _ring(self) -> None:
        """Something happened that is to be recorded, sent or looked at soon."""
        self._records.ring()
        self._contacts.ring()

    def _heard(self, what: str, text: str) -> None:
        self._log.add(what, text)
        self._records.ring()

    def _record(self) -> float:
        self.device.record_step(self._clock.now())
        self._log.flush()
        if self.device.keeper.urgent_waits:
            self._contacts.ring()
        return 0.0 if self.device.is_erasing else math.inf

    def _decide(self, pipeline: str) -> None:
        """The decision loop of one pipeline; nothing that is raised in it may end it."""
        decider, idle_s = self.device.pipelines.by_name[pipeline], IDLE_S_MIN
        while not self._stop.is_set():
            self._beats[pipeline] = time.monotonic()
            taken = decider.taken
            try:
                made = self.device.decide_step(self._clock.now(), pipeline)
                if made is not None:
                    idle_s = IDLE_S_MIN
                    self._ring()
                    continue
                if decider.closed:
                    self._records.ring()  # a period ended by the clock
                told = decider.wait(FRAME_WAIT_S)
            except Exception as error:
                self._sayer.error(f"decide-{pipeline}", error)
                self._stop.wait(ERROR_PAUSE_S)
                continue
            # A source that says at once that there is something, of which nothing is taken, must not keep us spinning.
            if told and (decider.taken != taken or time.monotonic() - self._beats[pipeline] > IDLE_S_MIN):
                idle_s = IDLE_S_MIN
                continue
            self._stop.wait(idle_s)
            idle_s = min(idle_s * 2, self.config.idle_s_max)

    def _watched(self) -> threading.Thread:
        """The watchdog, in a thread that does nothing else."""
        updater = self.device.updater
        watchdog = Watchdog(
            updater.watch,
            beat=lambda: max(self._beats.values()),
            status=self._sentence,
            supervisor=self._supervisor,
            clock=self._clock,
            leave=lambda words: write_last_words(self.device.folder, words),
            run_ms_max=updater.limits.guard.run_ms_max,
        )
        thread = threading.Thread(target=watchdog.run, args=(self._stop,), name="edgewise-watchdog", daemon=True)
        thread.start()
        return thread

    def _sentence(self) -> str:
        """How the device does, in one line, from memory alone: the watchdog must not wait for a disk."""
        running = self.device.updater.running
        does = f"decides with {running.release}" if running else "waits for a first release"
        return f"{does}; {self.device.decisions} decisions so far"

    def run_once(self) -> int:
        """Decide on what the source has now, record, update, make contact; comes back with the count of decisions."""
        now = self._clock.now
        if self._field is not None:
            self._field.start(self.device)
        self._renew()
        for _ in range(3):  # a first release needs a contact, an update and a contact
            self.device.contact_step(now())
            self.device.update_step(now())
        before, taken = self.device.decisions, -1
        while taken != self.device.pipelines.taken:  # a frame that cannot be decided on is not the last one
            taken = self.device.pipelines.taken
            self.device.decide_step(now())
            self.device.beside_step()
        made = self.device.decisions - before
        while self.device.defer_step():
            pass
        self.device.pipelines.close_periods()
        self.device.record_step(now())
        self.device.contacts.hurry(now())
        self.device.contact_step(now())
        self._contacts_noted.step(self.device.contacts, self._clock.monotonic_s())
        self._close()
        return made

    def _hand_over(self, name: str, step: Callable[[float], bool]) -> None:
        """Frames that are decided on are looked at once more, one after the other."""
        while not self._stop.is_set():
            try:
                if step(HAND_OVER_WAIT_S):
                    self._ring()
            except Exception as error:
                self._sayer.error(name, error)
                self._stop.wait(ERROR_PAUSE_S)

    def _close(self) -> None:
        if self._field is not None:
            self._field.close()  # first, because it asks the device what is durable
        self.device.close(self._clock.now())

    def _talk(self) -> float:
        self._renew()
        if self.device.contact_step(self._clock.now()):
            self._records.ring()  # what the hub acknowledged, or wants to be erased
        self.device.update_step(self._clock.now())
        self._contacts_noted.step(self.device.contacts, self._clock.monotonic_s())
        self._log_link()
        return self.device.wants_in_s(self._clock.now())

    def _log_link(self) -> None:
        """A link that breaks or comes back is a line of the log, not each contact."""
        error = self.device.contacts.error
        if error != self._link_error:
            self._log.add("contact", error or "the hub answers")
        self._link_error = error

    def _renew(self) -> None:
        if self._renewal is not None:
            ended = self.device.contacts.error_code == "certificate_validity"
            self._renewal.step(self._clock.now(), ended=ended)

    def _start(self, name: str, work: Callable[[], float], rounds: Rounds) -> None:
        """A thread that does this again and again; the work says after how many seconds it is wanted again."""

        def turn() -> None:
            wanted_s = 0.0
            while rounds.rest(self._stop, wanted_s):
                try:
                    wanted_s = work()
                except Exception as error:
                    # Nothing of this may end the process that decides; it is said, and tried again.
                    self._sayer.error(name, error)
                    self._stop.wait(ERROR_PAUSE_S)
                    wanted_s = 0.0

        self._begin(name, turn)

    def _begin(self, name: str, turn: Callable[[], None]) -> None:
        thread = threading.Thread(target=turn, name=f"edgewise-{name}", daemon=True)
        thread.start()
        self._threads.append(thread)


def run(
    data_dir: Path,
    source: SourceSpec | str | Path | None = None,
    *,
    http_port: int | None = 8081,
    hub_url: str | None = None,
    once: bool = False,
    act: Act | None = None,
) -> None:
    """Run the agent on a source, or on the pipelines of ``edge.yaml``, until SIGTERM or SIGINT.

    Args:
        data_dir: the enrolled device's folder.
        source: a record, a text as `read_source` takes it, or a folder; None for what ``edge.yaml`` names.
        http_port: of the local API on loopback; 0 picks one and prints it, None has no API.
        hub_url: instead of the one given at enrolment.
        once: decide on what is there, make contact, and come back.
        act: instead of what the installed app brings (`act_maker`); a text it returns raises an alarm.
    Raises:
        NotValid: not enrolled, no such source, an app that cannot be loaded, or a folder of another version.
        NotNow: port or folder in use.
    """
    data_dir = Path(data_dir)
    identity, config = load_identity(data_dir), load_config(data_dir)
    clock, chance = SystemClock(), SystemChance()

    field = FieldSide(identity, data_dir, clock=clock)
    settle = functools.partial(settled, device=identity.device, folder=data_dir)
    given = source if source is not None else config.source
    target = identity.usecase.outcome.target
    make_act = act_maker(identity.usecase.app, target) if act is None else lambda: act
    parts = field.fit(parts_of(config.pipelines, given, clock=clock, make_act=make_act, settle=settle))
    with locked(data_dir):
        credentials, url = Credentials(data_dir), hub_url or identity.hub_url
        credentials.validity()  # raises where the folder is not whole
        link = HttpLink(url, credentials)
        large = large_of(identity.usecase, credentials)
        device = open_device(data_dir, identity, config, link=link, pipelines=parts, large=large, clock=clock)
        bring_card(device, data_dir, credentials.key, clock, measure=not once)
        renewal = Renewal(credentials, url, chance=chance)
        supervisor = SystemdSupervisor()
        agent = Agent(device, config=config, clock=clock, renewal=renewal, supervisor=supervisor, field=field)
        try:
            if once:
                agent.run_once()
            else:
                _run_with_api(agent, device, clock, http_port, field)
        finally:
            link.close()


def _run_with_api(agent: Agent, device: Device, clock: Clock, http_port: int | None, field: FieldSide) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stop())
    with contextlib.ExitStack() as stack:
        if http_port is not None:
            stack.enter_context(_serving(agent, device, clock, http_port, field))
        if (phones := agent.config.phones) is not None:
            from edgewise.edge._serving import phones_served

            stack.enter_context(phones_served(phones, field.push))
        _garbage.resume()
        agent.run()


@contextlib.contextmanager
def _serving(agent: Agent, device: Device, clock: Clock, http_port: int, field: FieldSide) -> Iterator[None]:
    """The local API in a thread of its own."""
    from edgewise.edge._serving import served
    from edgewise.edge.api import local_api
    from edgewise.ports import address, listen

    with listen("127.0.0.1", http_port) as listener:
        app = local_api(device, clock, agent.is_alive, field)
        with served(app, listener, name="api"):
            # The address as a line of its own: whoever started us with port 0 reads it.
            sys.stdout.write(f"{device.identity.device} runs; status on {address(listener)}\n")
            sys.stdout.flush()
            yield


def status(data_dir: Path) -> dict[str, Any]:
    """What the device's files say: what runs, why, what waits and what comes next. Works while the agent is off.

    Raises:
        NotValid: not an enrolled device, or of another version.
    """
    data_dir = Path(data_dir)
    identity = load_identity(data_dir)
    reported = {**facts(), **SystemFacts(data_dir, load_config(data_dir).facts).read()}
    return read_status(data_dir, identity, facts=reported, clock=SystemClock(), agent_runs=is_locked(data_dir))
