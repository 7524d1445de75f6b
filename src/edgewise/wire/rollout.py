"""How a release reaches the devices of its use case: the part of ``usecase.yaml`` that rollouts follow."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from edgewise.wire._record import Name, Share, Strict, Time
from edgewise.wire.conditions import Condition
from edgewise.wire.terms import Terms

Proxy = Literal["overrides", "alarms"]
YEAR_S = 31_536_000.0  # no time of a policy is longer: what takes years is a mistake, and dates end in the year 9999


class Wave(Strict):
    """One step of a rollout: up to `devices` devices in all, a share of the fleet, or the devices it names."""

    devices: int | None = Field(None, ge=1)
    percent: float | None = Field(None, gt=0, le=100)
    named: tuple[Name, ...] = Field((), max_length=10_000, description="devices that are added by this wave")
    growth: float | None = Field(
        None, ge=1.1, le=100, description="only the last wave: it repeats, each time so many times as large"
    )

    @model_validator(mode="after")
    def _one_of(self) -> Wave:
        if sum((self.devices is not None, self.percent is not None, bool(self.named))) != 1:
            raise ValueError("a wave needs exactly one of devices, percent and named")
        if self.growth is not None and self.named:
            raise ValueError("a wave of named devices cannot grow; give devices or percent")
        return self


class Rate(Strict):
    """How fast devices are told, after the exponential rates of job services: slow at first, faster as it succeeds."""

    per_minute: float = Field(ge=0.001, le=100_000, description="devices told in a minute at first")
    growth: float = Field(1.0, ge=1, le=10, description="the rate is multiplied by it")
    every: int = Field(10, ge=1, description="each time so many more devices have committed")
    per_minute_max: float = Field(1000, ge=0.001, le=100_000)


class Disruption(Strict):
    """How many devices of a group may be away or in the middle of a change at once."""

    group_by: tuple[Name, ...] = Field(
        ("site",), min_length=1, max_length=4, description="labels that make a group; site is one of them"
    )
    unavailable_max: int | None = Field(None, ge=1, description="in each group, devices at once")
    available_min: int | None = Field(None, ge=0, description="in each group, devices that stay as they are")

    @model_validator(mode="after")
    def _one_of(self) -> Disruption:
        if (self.unavailable_max is None) == (self.available_min is None):
            raise ValueError("a disruption budget needs exactly one of unavailable_max and available_min")
        return self


class Shadow(Strict):
    """The candidate first decides beside the champion, on the same frames, without acting: nobody is exposed."""

    devices: int | None = Field(None, ge=1)
    percent: float | None = Field(None, gt=0, le=100)
    cpu_share: float = Field(0.5, gt=0, le=1, description="of a device's time between frames that it may take")
    pairs_min: int = Field(300, ge=1, description="paired decisions before anything is concluded from agreement")
    tolerance: Share = Field(0.01, description="promoted without labels where the two differ on surely fewer frames")
    margin: float = Field(0.01, gt=0, le=1, description="loss of accuracy that must be ruled out to promote on labels")
    promote_alpha: float = Field(0.03, gt=0, lt=1, description="bound on promoting one that is worse by the margin")
    wait_s: float = Field(172_800, gt=0, le=YEAR_S, description="undecided for so long, a person is asked")

    @model_validator(mode="after")
    def _one_of(self) -> Shadow:
        if (self.devices is None) == (self.percent is None):
            raise ValueError("shadow needs exactly one of devices and percent")
        return self


class Backstop(Strict):
    """Without labels: devices that changed against those that have not yet, each compared with itself before."""

    proxies: tuple[Proxy, ...] = Field(
        ("overrides",), min_length=1, description="counts by device that tell of quality"
    )
    alpha: float = Field(0.005, gt=0, lt=1, description="bound on a false revert, over all looks and proxies together")
    looks: int = Field(2, ge=1, le=24, description="at even distances while a wave bakes")
    devices_min: int = Field(5, ge=3, description="devices on either side before a look counts")
    before_s: float = Field(604_800, gt=0, le=YEAR_S, description="how far back a device's own past is asked")


class RolloutPolicy(Strict):
    """Who takes part, how fast, what stops it. Every bound of a rollout is here."""

    select: tuple[Condition, ...] = Field(
        (), max_length=32, description="who takes part at all: labels and facts of a device, all must hold"
    )
    waves: tuple[Wave, ...] = Field((Wave(devices=1), Wave(percent=100)), max_length=100)
    starts_at: Time | None = Field(None, description="nothing happens before")
    approval: Literal["none", "person"] = Field(
        "none", description="person: somebody else than who made it lets it begin"
    )
    automatic: bool = Field(False, description="a release signed on the gate's word starts its rollout by itself")
    return_to: Name | None = Field(
        None, description="release to go back to; the one that the fleet ran before by default"
    )

    conditions: tuple[Condition, ...] = Field((), description="a device takes part while its facts meet all of them")
    download: Terms = Field(Terms(), description="when a device may download")
    activation: Terms = Field(Terms(), description="when a device may switch to what it has downloaded")
    bytes_per_s_max: float | None = Field(None, gt=0, description="download bandwidth of one device, bytes/s")
    metered_bytes_max: int | None = Field(
        None, ge=0, description="predicted bytes over metered links, of all devices together"
    )
    rate: Rate | None = Field(None, description="how fast devices are told; without it a wave is told at once")
    disruption: tuple[Disruption, ...] = Field((), max_length=8)

    shadow: Shadow | None = None
    trial_s: float = Field(60, ge=0, le=YEAR_S, description="a device's own trial before it commits")
    bake_s: float = Field(3600, ge=0, le=YEAR_S, description="watched for this long after the wave's last commit")
    bake_decisions_min: int = Field(0, ge=0, description="paired decisions needed before the wave can pass")
    success_share: Share = Field(
        1.0, description="of a wave's devices that must commit; those that say not now are left out"
    )
    success_min: int = Field(1, ge=1, description="devices of a wave that must commit, if it has so many")
    wave_s_max: float = Field(
        604_800, gt=0, le=YEAR_S, description="a wave that cannot pass for so long pauses and asks a person"
    )

    failures_max: int = Field(0, ge=0, description="failed devices beyond this stop the rollout")
    failures_share_max: Share | None = Field(None, description="share of failed devices beyond this stops it, too")
    failures_sample_min: int = Field(
        5, ge=1, description="devices that have committed or failed before the share counts"
    )
    failures_then: Literal["revert", "pause"] = "revert"
    stuck_s: float | None = Field(
        None, gt=0, le=YEAR_S, description="told so long ago, in contact and not committed is a failure"
    )

    revert_alpha: float = Field(0.01, gt=0, lt=1, description="false-revert bound: revert at e-value >= 1/alpha")
    hold_e: float = Field(10, gt=1, description="while the e-value is at least this, no further wave opens")
    backstop: Backstop | None = None

    @model_validator(mode="after")
    def _waves_fit(self) -> RolloutPolicy:
        if any(wave.growth is not None for wave in self.waves[:-1]):
            raise ValueError("only the last wave can grow; take growth from the others")
        return self
