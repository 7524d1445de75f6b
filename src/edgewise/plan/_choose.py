"""Which of a release's variants a device gets: the most exact one that fits it and meets its deadline."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgewise.plan._fit import misfits, predicted_disk_bytes
from edgewise.wire import Manifest

EXACT_FIRST = ("fp32", "fp16", "int8")


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What a device gets of a release.

    Attributes:
        variant: its name; None where no variant fits, then there is no bundle either.
        bundle: its manifest digest.
        reasons: by variant, why it cannot run there: of the more exact ones that were passed over, or of all.
    """

    variant: str | None
    bundle: str | None
    reasons: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def sentences(self) -> tuple[str, ...]:
        """The reasons in a row, each with its variant; without it where the release has a single one.

        >>> Choice(variant=None, bundle=None, reasons={"fp32": ("too slow",)}).sentences()
        ('too slow',)
        """
        if len(self.reasons) == 1 and self.variant is None:
            return next(iter(self.reasons.values()))
        return tuple(f"{name}: {reason}" for name, found in self.reasons.items() for reason in found)


def choose(
    variants: Mapping[str, tuple[str, Manifest]],
    facts: Mapping[str, Any],
    *,
    latency_ms_max: float | None = None,
    held: Collection[str] = (),
    refused: Mapping[str, str] | None = None,
) -> Choice:
    """The most exact variant that fits: fp32 before fp16 before int8, then any other by its name.

    What a device does not report is not held against it, so one that reports nothing gets the most exact variant.

    Args:
        variants: of the release, by name: manifest digest and manifest.
        facts, latency_ms_max: see `misfits`.
        held: digests of the blobs that the device holds.
        refused: by manifest digest, why a bundle is out of the question there, such as a trial that it failed.

    >>> from edgewise.wire import Needs
    >>> def made(latency_ms):
    ...     needs = Needs(opset=17, ram_mb=50, latency_ms=latency_ms)
    ...     return Manifest.model_construct(needs=needs, blobs={})
    >>> release = {"int8": ("b" * 64, made(4.0)), "fp32": ("a" * 64, made(10.0))}
    >>> choose(release, {"speed_ratio": 1.0}, latency_ms_max=20).variant
    'fp32'
    >>> choice = choose(release, {"speed_ratio": 0.25}, latency_ms_max=20)
    >>> choice.variant, choice.reasons["fp32"]
    ('int8', ('one decision takes about 40 ms there, at most 20 ms allowed',))
    >>> for sentence in choose(release, {"speed_ratio": 0.1}, latency_ms_max=20).sentences():
    ...     print(sentence)
    fp32: one decision takes about 100 ms there, at most 20 ms allowed
    int8: one decision takes about 40 ms there, at most 20 ms allowed
    """
    reasons: dict[str, tuple[str, ...]] = {}
    for name in sorted(variants, key=exactness):
        bundle, manifest = variants[name]
        disk_bytes = predicted_disk_bytes(manifest, held)
        found = misfits(manifest.needs, facts, latency_ms_max=latency_ms_max, disk_bytes=disk_bytes)
        if refused and bundle in refused:
            found.append(refused[bundle])
        if not found:
            return Choice(variant=name, bundle=bundle, reasons=reasons)
        reasons[name] = tuple(found)
    return Choice(variant=None, bundle=None, reasons=reasons)


def exactness(variant: str) -> tuple[int, str]:
    """A key that sorts variants by how exact they are.

    >>> sorted(["int8", "north", "fp32"], key=exactness)
    ['fp32', 'int8', 'north']
    """
    known = EXACT_FIRST.index(variant) if variant in EXACT_FIRST else len(EXACT_FIRST)
    return known, variant
