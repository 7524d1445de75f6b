"""Fixtures that every room's tests share: real data, and servers that are found or started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine makes examples slowly; that is no fault of what is tested, and nothing here is timed.
settings.register_profile("edgewise", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edgewise")


def missing(what: str, why: str) -> None:
    """Skip the test – or fail it where EDGEWISE_REQUIRE names the thing, as CI does."""
    if what in os.environ.get("EDGEWISE_REQUIRE", "").split(","):
        pytest.fail(f"{why} – EDGEWISE_REQUIRE names '{what}', so this is a failure here")
    pytest.skip(why)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data; it is never part of the repository."""
    named = os.environ.get("EDGEWISE_DATA")
    if not named:
        missing("data", "EDGEWISE_DATA is not set: this test needs the folder of real data")
    root = Path(named or ".")
    if not (root / "manufacturing").is_dir():
        missing("data", f"EDGEWISE_DATA is {named}, which has no folder 'manufacturing'")
    return root
