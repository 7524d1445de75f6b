"""Which of a release's variants a device gets: its site's, else the most exact one that fits and meets its deadline."""

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
    site: str | None = None,
) -> Choice:
    """The variant of the device's site where it fits, else the most exact one: fp32, fp16, int8, then by name.

    A variant that was made for a site is out of the question at any other, whatever it is called in the release.
    What a device does not report is not held against it, so one that reports nothing gets the most exact variant.

    Args:
        variants: of the release, by name: manifest digest and manifest.
        facts, latency_ms_max: see `misfits`.
        held: digests of the blobs that the device holds.
        refused: by manifest digest, why a bundle is out of the question there, such as a trial that it failed.
        site: where the device is.

    >>> from edgewise.wire import Needs, Provenance
    >>> def made(latency_ms):
    ...     needs = Needs(opset=17, ram_mb=50, latency_ms=latency_ms)
    ...     made = Provenance.model_construct(site=None)
    ...     return Manifest.model_construct(needs=needs, blobs={}, provenance=made)
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
    ours = {name: one for name, one in variants.items() if _made_for(one[1]) in (None, site)}
    for name in sorted(ours, key=lambda name: (_made_for(ours[name][1]) is None, exactness(name))):
        bundle, manifest = ours[name]
        disk_bytes = predicted_disk_bytes(manifest, held)
        found = misfits(manifest.needs, facts, latency_ms_max=latency_ms_max, disk_bytes=disk_bytes)
        if refused and bundle in refused:
            found.append(refused[bundle])
        if not found:
            return Choice(variant=name, bundle=bundle, reasons=reasons)
        reasons[name] = tuple(found)
    return Choice(variant=None, bundle=None, reasons=reasons)


def _made_for(manifest: Manifest) -> str | None:
    return manifest.provenance.site


def exactness(variant: str) -> tuple[int, str]:
    """A key that sorts variants by how exact they are.

    >>> sorted(["int8", "north", "fp32"], key=exactness)
    ['fp32', 'int8', 'north']
    """
    known = EXACT_FIRST.index(variant) if variant in EXACT_FIRST else len(EXACT_FIRST)
    return known, variant
