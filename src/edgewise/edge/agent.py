"""The device as a process: enrol once, then run until told to stop; and its status from files when it is off."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import importlib.metadata
import os
import platform
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, field_validator

from edgewise import __version__
from edgewise.edge._contact_memory import ContactMemory
from edgewise.edge._data_key import device_safe, site_key
from edgewise.edge._decider import LoopLimits
from edgewise.edge._device_log import DeviceLog
from edgewise.edge._field import FieldSide
from edgewise.edge._guard import GuardLimits
from edgewise.edge._last_words import write_last_words
from edgewise.edge._offline import read_status
from edgewise.edge._period import Act
from edgewise.edge._pipeline_parts import PipelineConfig, parts_of
from edgewise.edge._pipelines import PIPELINES_MAX, PipelinePart
from edgewise.edge._push import PhoneDoor
from edgewise.edge._say import Sayer
from edgewise.edge._source_text import settled
from edgewise.edge._update_state import UpdateLimits
from edgewise.edge._watchdog import Watchdog
from edgewise.edge.apps import act_maker
from edgewise.edge.card import bring_card
from edgewise.edge.certificate import Renewal
from edgewise.edge.device import Device, DeviceLimits, Identity
from edgewise.edge.runtime import RuntimeConfig, open_runtime
from edgewise.ports import (
    Clock,
    Credentials,
    HttpLink,
    Large,
    Link,
    RotatingFiles,
    Source,
    Supervisor,
    SystemChance,
    SystemClock,
    SystemdSupervisor,
    SystemFacts,
    SystemFootprint,
    V2Large,
    boot_id,
    disk_error,
    fetch_identity,
    first_certificate,
    pin_root,
    replace_file,
    split_token,
)
from edgewise.wire import NotNow, NotValid, SourceSpec, Strict, UseCase, decode, encode
from edgewise.wire import explain as wrong

IDENTITY_FILE = "device.json"
CONFIG_FILE = "edge.yaml"
LOCK_FILE = "lock"
GIVEN_AS_YAML = {"facts", "phones", "pipelines", "runtime", "source"}  # settings that are more than one word
BEAT_S_MAX = 30.0  # a decision loop that is silent for longer stands still
ERROR_PAUSE_S = 1.0
DEFER_WAIT_S = 0.5  # longest wait for a frame to defer, so that a stop is noticed
STOP_S_MAX = 5.0  # threads that hang in a source or in the network must not keep a stop waiting for longer


class AgentConfig(Strict):
    """``edge.yaml`` in the data folder; each field also as ``EDGEWISE_EDGE_<FIELD>``, which wins."""

    collect: bool = Field(default=False, description="before the first bundle: look at frames and keep typical ones")
    ring_bytes: int = Field(default=64_000_000, ge=1_000_000, description="recent frames held in memory")
    idle_s_max: float = Field(default=0.1, gt=0, le=10, description="longest pause between two looks for a new frame")
    pace_s: float = Field(
        default=0.05, gt=0, le=10, description="pause between two looks at records, contacts and updates"
    )
    download_bytes_per_s_max: float | None = Field(
        default=None, gt=0, description="most that downloads may take; the use case may ask for less"
    )
    run_ms_max: float = Field(
        default=30_000, ge=100, description="longer in one run of a bundle is a hang: the agent ends itself, says why"
    )
    memory_mb_max: float | None = Field(
        default=None, gt=0, description="of the agent; a bundle under which it holds more is taken back"
    )
    log_bytes_max: int = Field(default=1_000_000, ge=10_000, description="of one file of the device's own log")
    log_files_max: int = Field(default=4, ge=1, le=100, description="files of the log; the oldest goes")
    data_key_from: str = Field(
        default="file",
        min_length=1,
        description="where the key is that locks what lies here: file (in this folder), tpm, or a file's path; a key "
        "in EDGEWISE_EDGE_DATA_KEY or EDGEWISE_EDGE_DATA_KEY_FILE wins",
    )
    facts: dict[str, str | float | int | bool] = Field(
        default_factory=dict, description="facts that the system cannot know, such as network_metered; they win"
    )
    runtime: RuntimeConfig = Field(default_factory=RuntimeConfig, description="how networks run; see RuntimeConfig")
    source: SourceSpec | str | None = Field(
        default=None, description="the only source, as a record or as a text: docs/sources.md"
    )
    phones: PhoneDoor | None = Field(
        default=None, description="a listener over TLS for those who push frames over the network: docs/sources.md"
    )
    pipelines: tuple[PipelineConfig, ...] = Field(
        (), max_length=PIPELINES_MAX, description="several sources; without any there is one, named main"
    )

    @field_validator("pipelines")
    @classmethod
    def _have_names(cls, pipelines: tuple[PipelineConfig, ...]) -> tuple[PipelineConfig, ...]:
        names = [item.name for item in pipelines]
        if len(set(names)) != len(names):
            raise ValueError(f"two pipelines share a name; seen {', '.join(names)}")
        return pipelines


# -- enrolment ---------------------------------------------------------------------------------------------------------


def enrol(data_dir: Path, hub_url: str, token: str, *, device: str | None = None) -> str:
    """Make the device's key, get its certificate, pin whom it trusts; comes back with the device's name.

    The token names the hub's root, so the secret in it is only ever sent to the real hub. Asked again after a lost
    answer the device sends the same key, and the hub gives the same answer.

    Args:
        hub_url: the hub's address for devices, such as ``https://hub.example:8443``.
        token: as `edgewise hub enrol-token` prints it.
        device: the name that the device wishes for; a token for a named device decides itself.
    Raises:
        NotValid: enrolled already, or the hub refuses. NotTrusted: not the hub of the token, or the token is not valid.
        NotNow: no hub answers.
    """
    data_dir, hub_url = Path(data_dir), hub_url.rstrip("/")
    secret, root = split_token(token)
    file = data_dir / IDENTITY_FILE
    if file.exists():
        name = load_identity(data_dir).device
        raise NotValid(f"{data_dir} is enrolled as {name} already; choose another --data-dir", code="already_enrolled")
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, data_dir) from error
    credentials = Credentials(data_dir)
    pin_root(credentials, hub_url, root)
    first_certificate(credentials, hub_url, secret, wish=device or "")
    answer = decode(Identity, fetch_identity(credentials, hub_url))
    # Last: a folder is enrolled when this file is there, and then it is whole.
    replace_file(file, encode(answer.model_copy(update={"hub_url": hub_url})), mode=0o600)
    return answer.device


def facts() -> dict[str, str | float | int | bool]:
    """The device's capability card, as far as it can be known without measuring."""
    import psutil

    return {
        "ram_mb": round(psutil.virtual_memory().available / 1e6),
        "cpus": os.cpu_count() or 1,
        "machine": platform.machine(),
        "system": platform.system(),
        "runtime": f"onnxruntime {importlib.metadata.version('onnxruntime')}",
    }


def load_identity(data_dir: Path) -> Identity:
    """Who the device in this folder is. NotValid: it is not enrolled, or the file is damaged."""
    file = data_dir / IDENTITY_FILE
    try:
        data = file.read_bytes()
    except FileNotFoundError as error:
        raise NotValid(
            f"{data_dir} is not an enrolled device; run `edgewise edge enroll --data-dir {data_dir} …` first",
            code="not_enrolled",
        ) from error
    except OSError as error:
        raise disk_error(error, file) from error
    return decode(Identity, data)


def load_config(data_dir: Path) -> AgentConfig:
    """The agent's settings: environment over file over default.

    Raises:
        NotValid: a setting that does not exist or cannot be; the message names it.
    """
    file = data_dir / CONFIG_FILE
    values: dict[str, Any] = {}
    if file.exists():
        try:
            values = yaml.safe_load(file.read_text()) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise NotValid(f"{file} is not YAML: {error}", code="config_invalid") from error
    for name in AgentConfig.model_fields:
        if (given := os.environ.get(f"EDGEWISE_EDGE_{name.upper()}")) is not None:
            values[name] = (
                _yaml(name, given) if name in ("facts", "phones", "pipelines", "runtime", "source") else given
            )
    try:
        return AgentConfig.model_validate(values)
    except ValidationError as error:
        raise NotValid(f"{file} or the environment: {wrong(error)}", code="config_invalid") from error


def _yaml(name: str, given: str) -> Any:
    try:
        return yaml.safe_load(given)
    except yaml.YAMLError as error:
        raise NotValid(f"EDGEWISE_EDGE_{name.upper()} is not YAML: {error}", code="config_invalid") from error


def log_files(data_dir: Path, config: AgentConfig | None = None) -> RotatingFiles:
    """The files of the device's own log, in ``log/`` of its folder. Raises as `load_config`."""
    config = config or load_config(data_dir)
    return RotatingFiles(data_dir / "log", bytes_max=config.log_bytes_max, files_max=config.log_files_max)


# -- running -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """One agent a folder. NotNow: another one runs on it."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        file = (data_dir / LOCK_FILE).open("a+")
    except OSError as error:
        raise disk_error(error, data_dir) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise NotNow(f"another agent runs on {data_dir}; stop it first", code="data_dir_busy") from error
        yield  # the kernel lets go of the lock when the process ends, however it ends


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
        self._asked: queue.SimpleQueue[None] = queue.SimpleQueue()  # to stop
        self._beats = dict.fromkeys(device.pipelines.names, time.monotonic())
        self._log = log or DeviceLog(log_files(device.folder, self.config), self._clock)
        self._sayer = Sayer(device.policy, log=self._log.add)
        device.keeper.heard = self._log.add
        self._contacts_noted = ContactMemory(device.folder)
        self._link_error: str | None = None
        self._threads: list[threading.Thread] = []

    def is_alive(self) -> bool:
        """Whether a decision loop still turns. One that hangs in its source is no reason to stop the others."""
        return time.monotonic() - max(self._beats.values()) < BEAT_S_MAX

    def stop(self) -> None:
        """Come to an end soon. Safe in a signal handler, which an event is not: it would wait for its own thread."""
        self._asked.put(None)

    def run(self) -> None:
        """Decide until told to stop, then record what is left."""
        self._start("record", self._record)
        self._log.add("agent", f"edgewise {__version__} runs: {self._sentence()}")
        if self._field is not None:
            self._field.voice.log = self._log.add
            self._field.start(self.device)
        self._start("contact", self._talk)
        for name in self.device.pipelines.names:
            self._begin(f"decide-{name}", functools.partial(self._decide, name))
        if self.device.cascade is not None:
            self._begin("defer", self._defer)
        self._threads.append(self._watched())
        self._supervisor.tell(READY="1", STATUS=self._sentence())
        try:
            self._asked.get()
        finally:
            self._supervisor.tell(STOPPING="1", STATUS="stops: what is decided is recorded")
            self._stop.set()
            end = time.monotonic() + STOP_S_MAX
            for thread in self._threads:
                thread.join(timeout=max(0.0, end - time.monotonic()))
            self._close()
            self._log.add("agent", f"stopped: {self._sentence()}")
            self._log.flush(final=True)

    def _record(self) -> None:
        self.device.record_step(self._clock.now())
        self._log.flush()

    def _decide(self, pipeline: str) -> None:
        """The decision loop of one pipeline; nothing that is raised in it may end it."""
        idle_s = 0.005
        while not self._stop.is_set():
            self._beats[pipeline] = time.monotonic()
            try:
                made = self.device.decide_step(self._clock.now(), pipeline)
            except Exception as error:
                self._sayer.error(f"decide-{pipeline}", error)
                self._stop.wait(ERROR_PAUSE_S)
                continue
            if made is not None:
                idle_s = 0.005
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

    def _defer(self) -> None:
        """Hard frames go to the large bundle, one after the other."""
        while not self._stop.is_set():
            try:
                self.device.defer_step(DEFER_WAIT_S)
            except Exception as error:
                self._sayer.error("defer", error)
                self._stop.wait(ERROR_PAUSE_S)

    def _close(self) -> None:
        if self._field is not None:
            self._field.close()  # first, because it asks the device what is durable
        self.device.close(self._clock.now())

    def _talk(self) -> None:
        self._renew()
        self.device.contact_step(self._clock.now())
        self.device.update_step(self._clock.now())
        self._contacts_noted.step(self.device.contacts, self._clock.monotonic_s())
        self._log_link()

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

    def _start(self, name: str, work: Callable[[], None]) -> None:
        def turn() -> None:
            while not self._stop.wait(self.config.pace_s):
                try:
                    work()
                except Exception as error:
                    # Nothing of this may end the process that decides; it is said, and tried again.
                    self._sayer.error(name, error)
                    self._stop.wait(ERROR_PAUSE_S)

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
    make_act = act_maker(identity.usecase.app) if act is None else lambda: act
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


def large_of(usecase: UseCase, credentials: Credentials) -> Large | None:
    """The large bundle of the use case's cascade, reached with the device's certificate; None without a cascade."""
    terms = usecase.placement.cascade
    return None if terms is None else V2Large(terms.url, terms.bundle, credentials)


def open_device(
    data_dir: Path,
    identity: Identity,
    config: AgentConfig,
    *,
    link: Link,
    clock: Clock,
    open_source: Callable[[str | None], Source] | None = None,
    pipelines: Sequence[PipelinePart] = (),
    act: Act | None = None,
    large: Large | None = None,
) -> Device:
    """The device in this folder on this machine. Raises as `Device`."""
    return Device(
        data_dir,
        identity=identity,
        open_source=open_source,
        pipelines=pipelines,
        link=link,
        runtime=open_runtime(config.runtime, data_dir),
        clock=clock,
        chance=SystemChance(),
        act=act,
        large=large,
        facts=facts(),
        live=SystemFacts(data_dir, config.facts),
        boot=boot_id(),
        footprint=SystemFootprint(),
        subject_key=site_key(),
        opened=device_safe(data_dir, config.data_key_from),
        limits=DeviceLimits(
            update=UpdateLimits(
                latency_ms_max=identity.usecase.placement.latency_ms_max,
                guard=GuardLimits(run_ms_max=config.run_ms_max, memory_mb_max=config.memory_mb_max),
            ),
            loop=LoopLimits(ring_bytes=config.ring_bytes, collect=config.collect),
            bytes_per_s_max=config.download_bytes_per_s_max,
        ),
    )


def _run_with_api(agent: Agent, device: Device, clock: Clock, http_port: int | None, field: FieldSide) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stop())
    with contextlib.ExitStack() as stack:
        if http_port is not None:
            stack.enter_context(_serving(agent, device, clock, http_port, field))
        if (phones := agent.config.phones) is not None:
            from edgewise.edge._serving import phones_served

            stack.enter_context(phones_served(phones, field.push))
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


# -- status without the agent ------------------------------------------------------------------------------------------


def status(data_dir: Path) -> dict[str, Any]:
    """What the device's files say: what runs, why, what waits and what comes next. Works while the agent is off.

    Raises:
        NotValid: not an enrolled device, or of another version.
    """
    data_dir = Path(data_dir)
    identity = load_identity(data_dir)
    reported = {**facts(), **SystemFacts(data_dir, load_config(data_dir).facts).read()}
    return read_status(data_dir, identity, facts=reported, clock=SystemClock(), agent_runs=is_locked(data_dir))


def is_locked(data_dir: Path) -> bool:
    """Whether an agent runs on this folder."""
    try:
        with locked(data_dir):
            return False
    except NotNow:
        return True
