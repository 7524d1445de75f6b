"""What a device can do, measured on the device itself and signed with its key."""

from __future__ import annotations

from pydantic import Field

from edgewise.wire._record import Name, Record, Time

CARD_TYPE = "application/vnd.edgewise.card+json"


class ReferenceRun(Record):
    """How long one run of a reference network takes, on one thread without spinning."""

    p50_ms: float = Field(gt=0, allow_inf_nan=False)
    p95_ms: float = Field(gt=0, allow_inf_nan=False)
    runs: int = Field(ge=1)


class CapabilityCard(Record):
    """Measured at the first start and whenever runtime or machine have changed; sent in an envelope of `CARD_TYPE`."""

    device: Name
    measured_at: Time
    version: str = Field(max_length=100)  # of edgewise
    system: str = Field(max_length=100)
    machine: str = Field(max_length=100)
    cpus: int = Field(ge=1)
    ram_mb: float = Field(gt=0, allow_inf_nan=False)  # built in
    disk_free_mb: float = Field(ge=0, allow_inf_nan=False)
    battery_percent: float | None = Field(None, ge=0, le=100)
    runtime: str = Field(max_length=100)
    opset_max: int = Field(ge=1)
    providers: tuple[str, ...] = Field(max_length=32)
    # Operators that the runtime knows of and has no code for, such as com.microsoft.GroupNorm; () where it cannot say.
    ops_missing: tuple[str, ...] = Field((), max_length=1000)
    reference: dict[str, ReferenceRun] = Field(max_length=16)

    def facts(self) -> dict[str, str | float | int | bool]:
        """What conditions and the comparison with a bundle's needs may ask."""
        runs = {f"reference_{name}_ms": run.p50_ms for name, run in self.reference.items()}
        words = {"providers": " ".join(self.providers), "ops_missing": " ".join(self.ops_missing)}
        stated = {name: text for name, text in words.items() if text}
        return {"opset_max": self.opset_max, "ram_total_mb": self.ram_mb, **stated, **runs}
