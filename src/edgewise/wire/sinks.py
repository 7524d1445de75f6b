"""Where decisions and alarms go beside the hub, as a person writes it down; and the one message that goes there."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, StringConstraints, field_validator, model_validator

from edgewise.wire._record import Digest, Id, Name, Record, Share, Strict, Time
from edgewise.wire.conditions import Condition
from edgewise.wire.sources import REGISTER_WORDS, Column, RegisterType, Tls, type_range
from edgewise.wire.values import Stated

SinkKind = Literal["decision", "alarm"]
# A use case comes from the hub. It may name secrets that a person on site has put there for sinks, and no others: a
# hub in wrong hands could have any file's first line or any variable sent to it as a token.
SecretFile = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"),
    Field(description="name of a file in the folder `secrets` of the device's own folder, mode 0600"),
]
SecretVariable = Annotated[
    str,
    StringConstraints(pattern=r"^EDGEWISE_SECRET_[A-Z0-9_]{1,100}$"),
    Field(description="environment variable; its name begins with EDGEWISE_SECRET_"),
]


class SinkLogin(Strict):
    """A user at another machine; the password lies on the device."""

    user: str
    password_file: SecretFile | None = None
    password_env: SecretVariable | None = None

    @model_validator(mode="after")
    def _one_place(self) -> SinkLogin:
        if (self.password_file is None) == (self.password_env is None):
            raise ValueError("a login needs exactly one of password_file and password_env")
        return self


class SinkEvent(Record):
    """What leaves by a sink: one decision, or one alarm. Never the frame itself."""

    id: Id  # of the decision or alarm: the same after a crash, so that a receiver can tell a repetition
    event: SinkKind
    at: Time
    device: Name
    site: Name
    use_case: Name
    frame: str  # its name, hashed where the policy does not let it travel
    label: str
    confidence: Share
    defect: Share | None = None
    margin: Share
    stated: Stated | None = None  # lower end, value, upper end, of a bundle that states values
    release: str | None = None
    bundle: Digest
    deferred: Literal[True] | None = None  # by the large bundle of a cascade, which corrects an earlier event
    text: str = ""  # of an alarm, from the app
    facts: dict[str, str | float | int | bool] = Field(default_factory=dict)  # those that the policy lists


class _Sink(Strict):
    """What every sink has. Its queue is drained by a thread of its own; the decision loop never waits for it."""

    name: Name
    events: tuple[SinkKind, ...] = Field(("alarm",), min_length=1, description="what it is sent")
    labels: tuple[str, ...] = Field((), description="only decisions for these labels; all without it")
    when: tuple[Condition, ...] = Field(
        (),
        max_length=16,
        description="only what meets all of these: label, confidence, defect, margin, low, value, high …",
    )
    queue_max: int = Field(1000, ge=1, le=100_000, description="more that wait push out the oldest decision, counted")
    attempts_max: int = Field(8, ge=1, le=1000, description="tries for one event before it counts as failed")
    retry_s_min: float = Field(0.5, gt=0, le=3600, description="first pause between two tries, seconds")
    retry_s_max: float = Field(60.0, gt=0, le=86_400, description="longest pause; each is twice the one before")
    timeout_s: float = Field(5.0, gt=0, le=120, description="longest one try may take")
    age_s_max: float | None = Field(None, gt=0, description="an event that waited longer is not sent any more, seconds")

    @model_validator(mode="after")
    def _pauses_agree(self) -> _Sink:
        if self.retry_s_min > self.retry_s_max:
            raise ValueError(f"retry_s_min is {self.retry_s_min:g}, at most retry_s_max {self.retry_s_max:g}")
        return self


class MqttSink(_Sink):
    """Events as JSON on an MQTT 5 topic, QoS 1; and, where wished, whether the device is there."""

    kind: Literal["mqtt"] = "mqtt"
    host: str = Field(min_length=1, max_length=253)
    port: int = Field(1883, ge=1, le=65_535)
    topic: str = Field(min_length=1, max_length=1024, description="may hold {device}, {site}, {event} and {label}")
    status_topic: str | None = Field(
        None, max_length=1024, description='retained {"online": true}; the broker says false when the device is lost'
    )
    client: Name | None = None
    keepalive_s: int = Field(30, ge=5, le=3600)
    login: SinkLogin | None = None
    tls: Tls | None = None

    @field_validator("topic", "status_topic")
    @classmethod
    def _is_a_topic(cls, topic: str | None) -> str | None:
        if topic is not None and set("+#\0") & set(topic):
            raise ValueError(f"{topic!r} holds a wild card; a message goes to one topic")
        return topic


class WebhookSink(_Sink):
    """Events as JSON by HTTP POST, with an Idempotency-Key, signed by HMAC-SHA256 where there is a secret."""

    kind: Literal["webhook"] = "webhook"
    url: str = Field(pattern=r"^https?://[^\s@]+$", max_length=2048)
    secret_file: SecretFile | None = Field(None, description="the key of X-Edgewise-Signature")
    secret_env: SecretVariable | None = None
    token_file: SecretFile | None = Field(None, description="a bearer token for Authorization")
    token_env: SecretVariable | None = None
    tls: Tls | None = None

    @model_validator(mode="after")
    def _one_place(self) -> WebhookSink:
        for what in ("secret", "token"):
            if None not in (getattr(self, f"{what}_file"), getattr(self, f"{what}_env")):
                raise ValueError(f"a webhook has one of {what}_file and {what}_env")
        return self


class WritableRegister(Strict):
    """A register that may be written, and how far. No other register is ever written."""

    name: Column
    address: int = Field(ge=0, le=65_535)
    table: Literal["holding", "coil"] = "holding"
    type: RegisterType = "uint16"
    words: Literal["big", "little"] = "big"
    min: float = Field(allow_inf_nan=False)
    max: float = Field(allow_inf_nan=False)
    step_max: float | None = Field(None, gt=0, description="largest change from one write to the next")
    values: tuple[float, ...] = Field((), max_length=256, description="only these may be written; any without it")
    interval_s_min: float = Field(0.0, ge=0, le=86_400, description="least time between two writes, seconds")
    safe: float | None = Field(
        None, description="written at the agent's end, and after hold_s; must keep to the limits"
    )
    hold_s: float | None = Field(None, gt=0, le=86_400, description="without a newer write for this long: safe again")
    read_back: bool = Field(True, description="read it again after a write; another value is a failure")

    @model_validator(mode="after")
    def _limits_agree(self) -> WritableRegister:
        if self.min > self.max:
            raise ValueError(f"min is {self.min:g}, at most max {self.max:g}")
        if (self.type == "bool") != (self.table == "coil"):
            raise ValueError("coils are of type bool, and only they are")
        if self.address + REGISTER_WORDS[self.type] > 65_536:
            raise ValueError(f"a {self.type} at {self.address} reaches beyond register 65535")
        low, high = type_range(self.type)
        if self.min < low or self.max > high:
            raise ValueError(f"{self.min:g} to {self.max:g} is more than a {self.type} holds: {low:g} to {high:g}")
        for value in (*self.values, *((self.safe,) if self.safe is not None else ())):
            if not self.may_hold(value):
                raise ValueError(f"{value:g} is outside of the limits of register {self.name}")
        if self.hold_s is not None and self.safe is None:
            raise ValueError("hold_s needs a safe value to go back to")
        return self

    def may_hold(self, value: float) -> bool:
        """Whether the limits let this value be there at all."""
        whole = self.type.startswith("float") or value == int(value)
        return self.min <= value <= self.max and whole and (not self.values or value in self.values)


class ModbusWrite(Strict):
    """Which value goes where when the decision is for one of these labels."""

    labels: tuple[str, ...] = Field((), description="any label without it")
    to: Column = Field(description="name of one of the registers")
    value: float = Field(allow_inf_nan=False)


class ModbusSink(_Sink):
    """Values written to a machine's registers, within limits that nothing on the way can widen."""

    kind: Literal["modbus"] = "modbus"
    age_s_max: float | None = Field(5.0, gt=0, description="a late command does harm; seconds")
    host: str = Field(min_length=1, max_length=253)
    port: int = Field(502, ge=1, le=65_535)
    unit: int = Field(1, ge=0, le=255)
    registers: tuple[WritableRegister, ...] = Field(min_length=1, max_length=64)
    writes: tuple[ModbusWrite, ...] = Field(min_length=1, max_length=256)

    @model_validator(mode="after")
    def _writes_are_allowed(self) -> ModbusSink:
        known = {item.name: item for item in self.registers}
        if len(known) != len(self.registers):
            raise ValueError(f"two registers share a name; seen {[item.name for item in self.registers]}")
        for write in self.writes:
            if write.to not in known:
                raise ValueError(f"{write.to!r} is not among the registers that may be written: {sorted(known)}")
            if not known[write.to].may_hold(write.value):
                raise ValueError(f"{write.value:g} is outside of the limits of register {write.to}")
        return self


class FileSink(_Sink):
    """Events as JSON lines in a file that is rotated; all of them together stay below a bound."""

    kind: Literal["file"] = "file"
    path: Annotated[str, StringConstraints(min_length=1, max_length=255)] = Field(
        description="below the folder `sinks` of the device's own folder"
    )
    bytes_max: int = Field(10_000_000, ge=1_000, le=10_000_000_000, description="of one file, then the next begins")
    files_max: int = Field(5, ge=1, le=1000, description="the oldest goes when there are more")

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        parts = path.replace("\\", "/").split("/")
        if ":" in parts[0] or any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"{path!r} leads out of the device's folder; name a file such as alarms.jsonl")
        return path


class ConsoleSink(_Sink):
    """Events as lines on standard output."""

    kind: Literal["console"] = "console"
    format: Literal["text", "json"] = "text"


SinkSpec: TypeAlias = Annotated[
    MqttSink | WebhookSink | ModbusSink | FileSink | ConsoleSink, Field(discriminator="kind")
]
