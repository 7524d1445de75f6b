"""Which variant of a release a device gets, and what is said of those that it does not get."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.plan import EXACT_FIRST, choose, misfits
from edgewise.wire import Blob, Golden, Graph, ImageSpec, Manifest, Needs, Provenance, digest


def variant(name: str, **needs: Any) -> tuple[str, Manifest]:
    blob = Blob(sha256=digest(f"{name} weights".encode()), size_bytes=needs.pop("size_bytes", 1_000_000))
    values: dict[str, Any] = {"opset": 17, "ram_mb": 10, "latency_ms": 1}
    manifest = Manifest(
        name="surface",
        task="image-classification",
        graphs=(Graph(blob="net", input="x", scores="y", pre=ImageSpec(width=8, height=8)),),
        labels=("none", "crack"),
        golden=Golden(seed=1, count=1, scores=((0.5, 0.5),)),
        needs=Needs(**(values | needs)),
        provenance=Provenance(trained_at=datetime(2026, 1, 1, tzinfo=UTC), trainer="vision", code_version="1"),
        blobs={"net": blob},
    )
    return digest(name.encode()), manifest


RELEASE = {
    "int8": variant("int8", ram_mb=60, latency_ms=8, ops=("QuantizeLinear",), size_bytes=2_000_000),
    "fp16": variant("fp16", ram_mb=120, latency_ms=21, size_bytes=4_000_000),
    "fp32": variant("fp32", ram_mb=200, latency_ms=20, size_bytes=8_000_000),
}


@pytest.mark.parametrize(
    ("facts", "chosen"),
    [
        ({}, "fp32"),
        ({"speed_ratio": 1, "ram_mb": 500, "disk_free_mb": 16}, "fp32"),
        ({"ram_mb": 199}, "fp16"),
        ({"disk_free_mb": 15.9}, "fp16"),
        ({"ram_mb": 119}, "int8"),
        ({"speed_ratio": 0.5}, "int8"),  # 40 and 42 ms are too long for the deadline of 30
        ({"ram_mb": 150, "speed_ratio": 0.5}, "int8"),
        ({"speed_ratio": 0.2}, None),
        ({"speed_ratio": 0.5, "ops_missing": "QuantizeLinear"}, None),
    ],
)
def test_the_most_exact_variant_that_fits_is_chosen(facts: dict[str, Any], chosen: str | None) -> None:
    choice = choose(RELEASE, facts, latency_ms_max=30)
    assert choice.variant == chosen
    assert choice.bundle == (RELEASE[chosen][0] if chosen else None)


def test_where_none_fits_every_variant_says_why() -> None:
    choice = choose(RELEASE, {"speed_ratio": 0.1}, latency_ms_max=30)
    assert list(choice.reasons) == ["fp32", "fp16", "int8"]
    assert len(choice.sentences()) == 3
    assert all("at most 30 ms" in sentence for sentence in choice.sentences())


def test_what_is_held_already_need_not_be_fetched_again() -> None:
    _, manifest = RELEASE["fp32"]
    held = [blob.sha256 for blob in manifest.blobs.values()]
    assert choose(RELEASE, {"disk_free_mb": 8}, held=held).variant == "fp32"
    assert choose(RELEASE, {"disk_free_mb": 8}).variant == "fp16"


def test_a_variant_that_failed_there_is_passed_over_with_that_reason() -> None:
    bundle = RELEASE["fp32"][0]
    choice = choose(RELEASE, {}, refused={bundle: "failed here before"})
    assert (choice.variant, choice.reasons["fp32"]) == ("fp16", ("failed here before",))


@given(
    speed=st.floats(0.01, 10),
    ram_mb=st.floats(1, 400),
    missing=st.sampled_from(["", "QuantizeLinear", "Mish"]),
    names=st.sets(st.sampled_from(EXACT_FIRST), min_size=1),
)
def test_the_choice_fits_and_every_more_exact_one_does_not(
    speed: float, ram_mb: float, missing: str, names: set[str]
) -> None:
    facts = {"speed_ratio": speed, "ram_mb": ram_mb, "ops_missing": missing}
    release = {name: RELEASE[name] for name in names}
    choice = choose(release, facts, latency_ms_max=30)
    ordered = [name for name in EXACT_FIRST if name in names]
    fits = [name for name in ordered if not misfits(release[name][1].needs, facts, latency_ms_max=30)]
    assert choice.variant == (fits[0] if fits else None)
    assert list(choice.reasons) == (ordered[: ordered.index(fits[0])] if fits else ordered)


def test_a_sites_variant_goes_to_its_site_first_and_to_no_other() -> None:
    def made(site: str | None, latency_ms: float = 1.0) -> Manifest:
        needs = Needs(opset=17, ram_mb=10, latency_ms=latency_ms)
        return Manifest.model_construct(needs=needs, blobs={}, provenance=Provenance.model_construct(site=site))

    release = {"fp32": ("a" * 64, made(None)), "site:north": ("b" * 64, made("north"))}
    assert choose(release, {}, site="north").variant == "site:north"
    for site in ("south", None):
        assert choose(release, {}, site=site).variant == "fp32"
    # It goes by what the bundle says, whatever the release calls it.
    named = {"fp32": ("b" * 64, made("north"))}
    assert choose(named, {}, site="south").bundle is None
    # Where the variant does not fit, the others are left.
    slow = {"fp32": ("a" * 64, made(None)), "site:north": ("b" * 64, made("north", 900.0))}
    choice = choose(slow, {"speed_ratio": 1.0}, latency_ms_max=100, site="north")
    assert (choice.variant, list(choice.reasons)) == ("fp32", ["site:north"])
