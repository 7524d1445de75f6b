"""``usecase.yaml``: what a user writes first, before any infrastructure."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from edgewise.wire._record import Mistakes, Name, Place, Share, Strict
from edgewise.wire.private import PERSON_TRANSFORMS, PICTURE_TRANSFORMS, ROW_TRANSFORMS, PrivateSettings, Transform
from edgewise.wire.readings import CHANNELS_MAX, READINGS_MAX, Channel
from edgewise.wire.rollout import RolloutPolicy
from edgewise.wire.sinks import SinkSpec
from edgewise.wire.slices import Slice, slice_faults
from edgewise.wire.terms import zone_of
from edgewise.wire.values import Target

RecordLeave: TypeAlias = Literal["sample", "telemetry", "report", "feedback", "alarm", "disagreement", "audit"]
# Ways out beside the uplink. `courier` carries the record classes that are listed too; `local-api` and `log` may name
# frames and show decisions; `deferral` sends a frame to a larger bundle, `sink` a decision to a machine on site.
Exit: TypeAlias = Literal["deferral", "sink", "courier", "local-api", "log"]
Leave: TypeAlias = RecordLeave | Exit


class Outcome(Strict):
    """What the use case is for, and how success is measured."""

    goal: str
    metric: Literal["balanced_accuracy", "macro_recall", "mae"] = Field(
        "macro_recall", description="mae, the mean absolute error, where values are stated: it needs `target`"
    )
    target: Target | None = Field(None, description="the number to state, instead of labels, docs/values.md")
    labels: tuple[str, ...] = Field((), description="classes known at the start; the list grows by labelling")
    good_labels: tuple[str, ...] = Field((), description="labels that all mean a good part, such as none and free")
    labels_that_matter: tuple[str, ...] = Field((), description="classes whose recall is gated by itself")

    @model_validator(mode="after")
    def _labels_or_target(self) -> Outcome:
        if (self.metric == "mae") != (self.target is not None):
            raise ValueError(
                f"metric {self.metric} with{'' if self.target else 'out'} a target; mae and a target go together"
            )
        if self.target is None and not self.labels:
            raise ValueError("labels are missing; name at least one class, or a target and metric mae for a number")
        if self.target is not None and (self.labels or self.good_labels or self.labels_that_matter):
            raise ValueError("labels and target are both given; a use case states values or tells classes apart")
        return self


class People(Strict):
    """Who answers for the use case. `usecase check` refuses a use case without them."""

    owner: str
    approver: str
    oversight: str = Field(description="where a person can stop or overrule a decision")


class Site(Strict):
    """A place where devices decide."""

    name: Name
    region: str = "local"
    zone: str = Field("UTC", description="IANA time zone of its windows, such as Europe/Berlin")
    labels: dict[str, str] = Field(default_factory=dict)

    @field_validator("zone")
    @classmethod
    def _is_a_zone(cls, zone: str) -> str:
        if zone_of(zone) is None:
            raise ValueError(f"{zone!r} is not a time zone; name one as Europe/Berlin or UTC")
        return zone


class DataPolicy(Strict):
    """What may be kept and leave, and after which transform. What is not listed does not leave."""

    version: int = Field(1, ge=1)
    data_class: Literal["product-image", "person-image", "measurement"] = "product-image"
    leave: tuple[Leave, ...] = Field(
        ("sample", "telemetry", "report", "feedback", "alarm", "disagreement", "audit", "courier", "local-api"),
        description="classes of records that may leave, and ways out beside the uplink: deferral, sink, courier, "
        "local-api, log",
    )
    transforms: tuple[Transform, ...] = Field(("strip-metadata",), description="run in order before anything is queued")
    private: PrivateSettings = Field(PrivateSettings(), description="the numbers of the transforms")
    fields: tuple[str, ...] = Field(
        ("frame", "group", "taken_at"), description="frame facts that may travel with a sample"
    )
    telemetry: tuple[Channel, ...] = Field(
        (), max_length=CHANNELS_MAX, description="numbers of a frame that may travel as readings, such as ac_power"
    )
    retention_days: int = Field(365, ge=1, description="rows of the lake go this long after what they tell of")
    residency: Literal["any", "region"] = Field(
        "any", description="region: rows of a site enter only a lake in the region that the site names"
    )

    @model_validator(mode="after")
    def _transforms_fit(self) -> DataPolicy:
        known = ROW_TRANSFORMS if self.data_class == "measurement" else PICTURE_TRANSFORMS
        if wrong := [name for name in self.transforms if name not in known]:
            raise ValueError(
                f"{', '.join(wrong)} cannot be done to {self.data_class}; known are {', '.join(sorted(known))}"
            )
        if self.data_class == "person-image" and not PERSON_TRANSFORMS.intersection(self.transforms):
            raise ValueError(
                f"pictures of people need one of {', '.join(sorted(PERSON_TRANSFORMS))} among data.transforms"
            )
        return self


class Sampling(Strict):
    """Which of the numbers that `data.telemetry` lists become readings, and when a block of them is closed."""

    every_s: float = Field(1.0, ge=0, description="a channel is read at most once in so many seconds")
    period_s: float = Field(300.0, gt=0, description="a block is closed after so long")
    readings_max: int = Field(1000, ge=1, le=READINGS_MAX, description="or when it has so many readings")


class Upload(Strict):
    """Budgets of one device. What is over a budget is not kept; what is shed is counted by class."""

    share_of_bytes: Share = Field(0.15, description="bytes kept for upload over bytes decided on")
    bytes_per_day: int = Field(50_000_000, ge=0)
    audit_share: Share = Field(0.2, description="part of the samples drawn at random with a logged probability")
    period_frames: int = Field(64, ge=4, le=4096, description="frames among which one selection is made")
    period_s: float = Field(60.0, gt=0, description="a period ends after this long without a new frame")
    outbox_bytes: int = Field(200_000_000, ge=1_000_000)


class Labelling(Strict):
    labels_per_day: int = Field(400, ge=0)
    suggest: bool = Field(False, description="let a new champion look at what waits for a label, docs/labelling.md")


class Retrain(Strict):
    """When a training order is made."""

    labels_min: int = Field(20, ge=1, description="new labels since the last order")
    every_hours: float | None = Field(None, gt=0, description="once so long ago, where there is any new label")
    daily_at: str | None = Field(
        None, pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="at this time of day, such as 02:30, with any new label"
    )
    zone: str = Field("UTC", description="time zone of daily_at, such as Europe/Berlin")
    trainer: Name | None = Field(None, description="vision for pictures and tabular for measurements without it")
    config: dict[str, str | float | int | bool] = Field(
        default_factory=dict, description="the trainer's settings, docs/learn.md"
    )
    variants: tuple[Literal["fp16", "int8"], ...] = Field(
        (), max_length=2, description="smaller forms of each trained network, for devices that cannot run it as it is"
    )
    adapt: bool = Field(
        False, description="devices tell what their network's channels get, and each site is tried its own variant"
    )

    @field_validator("zone")
    @classmethod
    def _is_a_zone(cls, zone: str) -> str:
        if zone_of(zone) is None:
            raise ValueError(f"{zone!r} is not a time zone; name one as Europe/Berlin or UTC")
        return zone


class Gate(Strict):
    """No site gets worse: how far a candidate may fall behind the champion, and what it must reach at all."""

    margin: Share = Field(
        0.02,
        description="largest loss of the site's metric that still passes, if certain; of mae the part it may grow by",
    )
    floor: Share = Field(
        0.55, description="lowest metric over all sites for a first release; of mae the skill, docs/values.md"
    )
    coverage_tolerance: Share = Field(
        0.05, description="of stated values: how far the coverage at a site may lie below the target's, if certain"
    )
    samples_min: int = Field(8, ge=1, description="fewer evaluation samples at a site make its result inconclusive")
    alpha: Share = Field(0.1, description="level of the paired test that a site got worse")
    evaluation_share: float = Field(0.2, gt=0, lt=0.9)
    split: Literal["grouped", "time"] = Field(
        "grouped",
        description="grouped keeps each group whole; time keeps whole blocks of time of a site, docs/data.md",
    )
    block_hours: float = Field(24.0, gt=0, le=8784, description="of a block of the split by time")
    robustness: Literal["off", "report"] = Field(
        "off",
        description="report has the worker measure what worse pictures cost; the scorecard shows it, nobody judges it",
    )
    when_inconclusive: Literal["hold", "bake"] = Field(
        "hold", description="hold waits for a person or more labels; bake lets the live paired test on devices decide"
    )


class Cascade(Strict):
    """Hard frames go to a larger bundle behind `edgewise edge serve`; the edge's own answer never waits for it."""

    # Plain HTTP only within the machine: what is deferred is content, and the server must know whose it is.
    url: str = Field(
        pattern=r"^(https://[^\s/@]+|http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?)(/[^\s]*)?$",
        description="address of `edge serve` with the large bundle; https, with the device's own certificate",
    )
    bundle: Name = Field(description="name under which the large bundle is served")
    margin_max: Share = Field(0.5, description="frames with a larger margin are never deferred")
    share_max: Share = Field(0.4, description="part of all frames that may be deferred")
    bytes_per_day: int = Field(20_000_000, ge=0, description="in any 24 hours")
    latency_ms_max: float = Field(
        1000, gt=0, le=60_000, description="a later answer is worth nothing and is not waited for"
    )
    waiting_max: int = Field(8, ge=1, le=256, description="frames waiting at once; more are not deferred")


class Placement(Strict):
    mode: Literal["edge", "cloud", "cascade", "auto"] = "edge"
    latency_ms_max: float = Field(200, gt=0, description="decision deadline")
    cascade: Cascade | None = None

    @model_validator(mode="after")
    def _cascade_agrees(self) -> Placement:
        if self.mode == "cascade" and self.cascade is None:
            raise ValueError("mode cascade needs `cascade`: at least url and bundle")
        if self.mode in ("edge", "cloud") and self.cascade is not None:
            raise ValueError(f"`cascade` is not used in mode {self.mode}; choose mode cascade or leave it out")
        return self


class Metered(Strict):
    """What a device may send over a link that costs money. Alarms always go; downloads follow the rollout's terms."""

    classes: tuple[Literal["audit", "feedback", "disagreement", "audit_sample", "telemetry", "sample"], ...] = Field(
        ("audit", "feedback", "disagreement", "telemetry"), description="classes that go; the others wait"
    )
    bytes_per_day: int = Field(5_000_000, ge=0, description="after so many bytes of a day, either way, only alarms go")


class Connectivity(Strict):
    contact_s: float = Field(60, gt=0, description="seconds between contacts while all is quiet")
    bytes_per_s_max: float | None = Field(None, gt=0, description="most that downloads of one device may take, bytes/s")
    price_per_gb: float | None = Field(None, ge=0, description="of a metered link, for 10^9 bytes either way")
    currency: str | None = Field(None, max_length=12, description="of the price, such as EUR")
    metered: Metered | None = Field(None, description="without it a metered link is used like any other")


class Signing(Strict):
    automatic: bool = Field(False, description="allow an automatic signer, its own process and key")


class UseCase(Strict):
    """The whole use case. Everything that decides, limits or forbids anything is in this one record."""

    name: Name
    app: Name
    outcome: Outcome
    people: People
    sites: tuple[Site, ...] = Field(min_length=1)
    slices: tuple[Slice, ...] = Field(
        (), max_length=16, description="samples that the gate judges by themselves beside the sites, docs/gate.md"
    )
    data: DataPolicy = DataPolicy()
    upload: Upload = Upload()
    telemetry: Sampling = Sampling()
    labelling: Labelling = Labelling()
    retrain: Retrain = Retrain()
    gate: Gate = Gate()
    rollout: RolloutPolicy = RolloutPolicy()
    placement: Placement = Placement()
    connectivity: Connectivity = Connectivity()
    signing: Signing = Signing()
    sinks: tuple[SinkSpec, ...] = Field(
        (), max_length=16, description="where events go beside the hub, docs/sources.md"
    )

    @model_validator(mode="after")
    def _labels_agree(self) -> UseCase:
        names = [site.name for site in self.sites]
        if len(set(names)) != len(names):
            raise ValueError(f"two sites share a name; seen {names}")
        sinks = [sink.name for sink in self.sinks]
        if len(set(sinks)) != len(sinks):
            raise ValueError(f"two sinks share a name; seen {sinks}")
        if mistakes := self._forecast_mistakes():
            raise Mistakes(mistakes)
        if faults := slice_faults(self.slices, self.data.fields, names):
            raise Mistakes(faults)
        return self

    def _forecast_mistakes(self) -> list[tuple[Place, str]]:
        """What a forecast needs beside its target."""
        target, found = self.outcome.target, list[tuple[Place, str]]()
        if target is None or target.horizon_s is None:
            return found
        if not {"columns", "step_s"} <= set(self.retrain.config):
            text = "a forecast needs `columns`, the windows' channels separated by commas, and `step_s` in seconds"
            found.append((("retrain", "config"), text))
        if self.gate.split != "time" or self.gate.block_hours * 3600 <= target.horizon_s:
            text = "windows of a series share most of what they hold: `split: time` with `block_hours` over the horizon"
            found.append((("gate",), text))
        return found
