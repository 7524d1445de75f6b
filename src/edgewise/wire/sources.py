"""Where frames come from, as a person writes it down: one record a kind of source, each with every bound and unit."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, field_validator, model_validator

from edgewise.wire._record import Name, Strict

Full = Literal["drop_oldest", "drop_newest"]
Column = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
REGISTER_WORDS = {
    "bool": 1,
    "int16": 1,
    "uint16": 1,
    "int32": 2,
    "uint32": 2,
    "float32": 2,
    "int64": 4,
    "uint64": 4,
    "float64": 4,
}
RegisterType = Literal["bool", "int16", "uint16", "int32", "uint32", "float32", "int64", "uint64", "float64"]


def type_range(kind: RegisterType) -> tuple[float, float]:
    """The least and the largest number that registers of this type hold.

    >>> type_range("int16"), type_range("bool")
    ((-32768, 32767), (0, 1))
    """
    if kind == "bool":
        return 0, 1
    bits = 16 * REGISTER_WORDS[kind]
    if kind.startswith("float"):
        largest = 3.4028234663852886e38 if bits == 32 else 1.7976931348623157e308  # IEEE 754 binary32 and binary64
        return -largest, largest
    return (0, 2**bits - 1) if kind.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


class Login(Strict):
    """A user at another machine. The password is never here: a file or an environment variable holds it."""

    user: str
    password_file: str | None = Field(None, description="file whose first line is the password; mode 0600")
    password_env: Variable | None = Field(None, description="environment variable that holds the password")

    @model_validator(mode="after")
    def _one_place(self) -> Login:
        if (self.password_file is None) == (self.password_env is None):
            raise ValueError("a login needs exactly one of password_file and password_env")
        return self


class Tls(Strict):
    """How the other machine proves itself, and how we do; without `ca_file` the system's authorities count."""

    ca_file: str | None = None
    certificate_file: str | None = Field(None, description="our certificate, PEM, where the other machine asks for one")
    key_file: str | None = Field(None, description="its key, PEM")

    @model_validator(mode="after")
    def _both(self) -> Tls:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file come together")
        return self


class RowFields(Strict):
    """What the members of a row mean. What is not named here is a column: a number, true, false or nothing."""

    time: Column | None = Field(None, description="member with the time: RFC 3339 text, or Unix seconds")
    group: Column | None = Field(None, description="member with the part, machine or patient the row belongs to")
    facts: tuple[Column, ...] = Field((), max_length=64, description="members that are facts of the row, texts as well")


class SeriesWindow(Strict):
    """Rows gathered into windows of a series, for a network that looks at many steps at once."""

    columns: tuple[Column, ...] = Field(
        min_length=1,
        max_length=1024,
        description="the channels, in order; clock.day_sin and its kind come from the row's time",
    )
    length: int = Field(ge=1, le=1 << 20, description="rows of a window")
    hop: int = Field(ge=1, le=1 << 20, description="rows from the start of one window to the next")
    step_s: float | None = Field(
        None, gt=0, description="seconds from one row to the next; a row that comes at another time begins a new window"
    )


class _Source(Strict):
    """What every source has."""

    name: Name = Field("source", description="begins the names of its frames; unique on the device")
    window: SeriesWindow | None = Field(None, description="of a source of rows: decide on windows instead of rows")


class _Live(_Source):
    """A source that does not wait for us: it is read in a thread of its own, into a bounded queue."""

    queue_max: int = Field(64, ge=1, le=10_000, description="frames held between the source and the decision loop")
    queue_bytes_max: int = Field(64_000_000, ge=1_000, le=1_000_000_000, description="their bytes")
    when_full: Full = Field("drop_oldest", description="which frame goes when the queue is full; it is counted")
    retry_s_min: float = Field(1.0, gt=0, le=3600, description="first pause before it is opened again, seconds")
    retry_s_max: float = Field(60.0, gt=0, le=86_400, description="longest pause; each is twice the one before")

    @model_validator(mode="after")
    def _pauses_agree(self) -> _Live:
        if self.retry_s_min > self.retry_s_max:
            raise ValueError(f"retry_s_min is {self.retry_s_min:g}, at most retry_s_max {self.retry_s_max:g}")
        return self


class FolderSpec(_Source):
    """A folder in which pictures and rows appear; goes on after the last name."""

    kind: Literal["folder"] = "folder"
    name: Name = "folder"
    path: str


class _Pictures(_Live):
    every_s: float | None = Field(None, gt=0, le=86_400, description="one frame in this many seconds; all without it")
    format: Literal["jpeg", "png", "bmp"] = Field("jpeg", description="bmp is raw: no time to pack, many bytes")
    jpeg_quality: int = Field(90, ge=1, le=100)
    pixels_max: int = Field(40_000_000, ge=1, le=400_000_000, description="larger pictures are skipped and counted")


class VideoSpec(_Pictures):
    """A video file, read to its end, and on when it grows; goes on after the last frame. No frame is dropped."""

    kind: Literal["video"] = "video"
    name: Name = "video"
    path: str
    queue_max: int = Field(8, ge=1, le=10_000, description="frames decoded ahead")


class CameraSpec(_Pictures):
    """A camera of this machine, or one that speaks RTSP or HTTP."""

    kind: Literal["camera"] = "camera"
    name: Name = "camera"
    device: int | None = Field(None, ge=0, le=255, description="number of a camera of this machine: /dev/videoN")
    path: str | None = Field(None, description="its device file instead")
    url: str | None = Field(None, pattern=r"^(rtsp|rtsps|http|https)://[^\s]+$", description="without a password")
    login: Login | None = None
    queue_max: int = Field(2, ge=1, le=1_000, description="a late picture is worth less than a new one")
    open_s_max: float = Field(10.0, gt=0, le=300, description="longest wait for the camera to open, seconds")
    silence_s_max: float = Field(10.0, gt=0, le=3600, description="longer without a picture, and it is opened again")
    width: int | None = Field(None, ge=1, le=32_768, description="asked of a camera of this machine, pixels")
    height: int | None = Field(None, ge=1, le=32_768)

    @field_validator("url")
    @classmethod
    def _no_password(cls, url: str | None) -> str | None:
        if url is not None and "@" in url.split("://", 1)[1].split("/", 1)[0]:
            raise ValueError("a password does not belong into a URL; name `login` with password_file or password_env")
        return url

    @model_validator(mode="after")
    def _one_camera(self) -> CameraSpec:
        if sum(item is not None for item in (self.device, self.path, self.url)) != 1:
            raise ValueError("a camera needs exactly one of device, path and url")
        if self.login is not None and self.url is None:
            raise ValueError("only a camera with a url takes a login")
        return self


class MqttSpec(_Live):
    """Messages of an MQTT 5 topic, each a picture or a row; the broker keeps what comes while we are away."""

    kind: Literal["mqtt"] = "mqtt"
    name: Name = "mqtt"
    host: str = Field(min_length=1, max_length=253)
    port: int = Field(1883, ge=1, le=65_535)
    topic: str = Field(min_length=1, max_length=1024, description="a filter; + and # are wild cards")
    share: Name | None = Field(None, description="of a shared subscription: each message goes to one of its takers")
    qos: Literal[0, 1] = 1
    client: Name | None = Field(None, description="MQTT client id; the device's name and this source's without it")
    session_s: int = Field(86_400, ge=0, le=2**32 - 2, description="how long the broker keeps messages for us, seconds")
    keepalive_s: int = Field(30, ge=5, le=3600)
    message_bytes_max: int = Field(8_000_000, ge=1, le=64_000_000, description="longer messages are refused")
    login: Login | None = None
    tls: Tls | None = None
    row: RowFields = RowFields()

    @field_validator("topic")
    @classmethod
    def _is_a_filter(cls, topic: str) -> str:
        levels = topic.split("/")
        if "\0" in topic or topic.startswith("$share/"):
            raise ValueError("name the topic alone; `share` makes a shared subscription")
        if any("#" in level and (level != "#" or at < len(levels) - 1) for at, level in enumerate(levels)) or any(
            "+" in level and level != "+" for level in levels
        ):
            raise ValueError(f"{topic!r} is no topic filter: + stands for one whole level, # for all at the end")
        return topic


class Register(Strict):
    """One value in the registers of a Modbus machine."""

    column: Column
    address: int = Field(ge=0, le=65_535, description="from 0; from the start of its model where `model` is given")
    table: Literal["holding", "input", "coil", "discrete"] = "holding"
    type: RegisterType = "uint16"
    words: Literal["big", "little"] = Field("big", description="which of several registers is the high one")
    scale: float = Field(1.0, description="the value is raw x scale + offset")
    offset: float = 0.0
    model: int | None = Field(None, ge=1, le=65_535, description="number of a SunSpec model that `address` counts in")
    scale_address: int | None = Field(
        None, ge=0, le=65_535, description="register with the power of ten (sunssf), counted as `address`"
    )
    missing: int | None = Field(None, description="raw value that means: not there")

    @model_validator(mode="after")
    def _fits(self) -> Register:
        if (self.type == "bool") != (self.table in ("coil", "discrete")):
            raise ValueError("coils and discrete inputs are of type bool, and only they are")
        if self.model is None and self.address + REGISTER_WORDS[self.type] > 65_536:
            raise ValueError(f"a {self.type} at {self.address} reaches beyond register 65535")
        return self


class SunSpec(Strict):
    """Find the SunSpec map of an inverter, meter or battery by itself and read the models we know."""

    base: int | None = Field(None, ge=0, le=65_000, description="its first register; 40000, 50000 and 0 are tried")
    models: tuple[int, ...] = Field((), max_length=32, description="numbers of the models to read; all that we know")
    points: tuple[str, ...] = Field((), max_length=256, description="names of the points to read; all without it")


class ModbusSpec(_Live):
    """Registers of a machine, read together every `every_s`: one row each time."""

    kind: Literal["modbus"] = "modbus"
    name: Name = "modbus"
    host: str = Field(min_length=1, max_length=253)
    port: int = Field(502, ge=1, le=65_535)
    unit: int = Field(1, ge=0, le=255, description="which machine behind the address")
    every_s: float = Field(1.0, ge=0.01, le=86_400, description="seconds between two readings")
    timeout_s: float = Field(3.0, gt=0, le=60)
    group: str = Field("", description="group of all its rows, such as the machine's name")
    registers: tuple[Register, ...] = Field((), max_length=512)
    sunspec: SunSpec | None = None

    @model_validator(mode="after")
    def _reads_something(self) -> ModbusSpec:
        if not self.registers and self.sunspec is None:
            raise ValueError("name registers, sunspec or both: there is nothing to read")
        columns = [item.column for item in self.registers]
        if len(set(columns)) != len(columns):
            raise ValueError(f"two registers share a column; seen {columns}")
        return self


class OpcUaNode(Strict):
    column: Column
    node: str = Field(pattern=r"^(ns=\d+;)?[isgb]=.+$", description="such as ns=2;s=Press.Force", max_length=1024)


class OpcUaSpec(_Live):
    """Nodes of an OPC UA server, subscribed to: one row of their newest values whenever something changed."""

    kind: Literal["opcua"] = "opcua"
    name: Name = "opcua"
    url: str = Field(pattern=r"^opc\.tcp://[^\s@]+$")
    nodes: tuple[OpcUaNode, ...] = Field(min_length=1, max_length=512)
    every_s: float = Field(1.0, ge=0.01, le=3600, description="publishing interval: at most one row in this time")
    timeout_s: float = Field(5.0, gt=0, le=60)
    silence_s_max: float = Field(30.0, gt=0, le=3600, description="seconds between two looks whether it is still there")
    group: str = ""
    login: Login | None = None
    security: Literal["none", "sign", "encrypt"] = Field("none", description="policy Basic256Sha256 unless none")
    tls: Tls | None = Field(None, description="our certificate and key, needed unless security is none")

    @model_validator(mode="after")
    def _secure(self) -> OpcUaSpec:
        if self.security != "none" and (self.tls is None or self.tls.certificate_file is None):
            raise ValueError(f"security {self.security} needs tls with certificate_file and key_file")
        columns = [item.column for item in self.nodes]
        if len(set(columns)) != len(columns):
            raise ValueError(f"two nodes share a column; seen {columns}")
        return self


class CsvSpec(_Source):
    """Rows of a CSV file at the pace of its time column; goes on after the last row. No row is dropped."""

    kind: Literal["csv"] = "csv"
    name: Name = "csv"
    path: str
    speed: float = Field(1.0, ge=0, le=1e6, description="1 is real time, 60 a minute a second, 0 as fast as asked for")
    every_s: float = Field(1.0, ge=0, le=86_400, description="from row to row where there is no time column")
    delimiter: str = Field(",", min_length=1, max_length=1)
    loop: bool = Field(False, description="start again at the end; rows are dated by the device's clock")
    line_bytes_max: int = Field(1_000_000, ge=1, le=64_000_000)
    row: RowFields = RowFields()


class PushSpec(_Source):
    """Frames that others send to the local API: ``POST /push/NAME``, and a phone's camera on ``/camera``."""

    kind: Literal["push"] = "push"
    name: Name = "push"
    token_file: str | None = Field(None, description="file that holds the token callers send; made where missing")
    token_env: Variable | None = None
    queue_max: int = Field(16, ge=1, le=10_000, description="more that wait are answered with 429")
    queue_bytes_max: int = Field(64_000_000, ge=1_000, le=1_000_000_000)
    frame_bytes_max: int = Field(8_000_000, ge=1, le=64_000_000, description="longer frames are answered with 413")
    row: RowFields = RowFields()

    @model_validator(mode="after")
    def _one_place(self) -> PushSpec:
        if self.token_file is not None and self.token_env is not None:
            raise ValueError("a push source has one of token_file and token_env")
        return self


SourceSpec: TypeAlias = Annotated[
    FolderSpec | VideoSpec | CameraSpec | MqttSpec | ModbusSpec | OpcUaSpec | CsvSpec | PushSpec,
    Field(discriminator="kind"),
]
SOURCE: TypeAdapter[SourceSpec] = TypeAdapter(SourceSpec, config=ConfigDict(defer_build=True))
