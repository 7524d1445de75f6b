"""Fixtures that every room's tests share: real data, and servers that are found or started."""

from __future__ import annotations

import importlib.util
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import s3_server as s3

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


@pytest.fixture(scope="session")
def s3_server() -> Iterator[s3.S3Server]:
    """An S3 API as a process of its own, one for all tests."""
    if importlib.util.find_spec("moto") is None:
        missing("s3", "moto is not installed; pip install 'moto[server]'")
    with s3.served() as server:
        yield server


@pytest.fixture
def bucket_url(s3_server: s3.S3Server) -> str:
    """A bucket of its own."""
    return s3_server.make_bucket(f"test-{secrets.token_hex(6)}")
