"""Skip a test without its tool – or fail it where EDGEWISE_REQUIRE names the tool, as CI does."""

from __future__ import annotations

import os
import shutil
from importlib import import_module
from typing import Any

import pytest


def needs_program(name: str) -> str:
    """The program's path."""
    path = shutil.which(name)
    if path is None:
        why = f"{name} is not installed"
        if name in os.environ.get("EDGEWISE_REQUIRE", "").split(","):
            pytest.fail(f"{why} – EDGEWISE_REQUIRE names it, so this is a failure here")
        pytest.skip(why)
    return path


def needs_module(name: str) -> Any:
    """The module of an extra that is not everywhere."""
    try:
        return import_module(name)
    except ImportError:
        why = f"{name} is not installed; pip install 'edgewise[{name}]'"
        if name in os.environ.get("EDGEWISE_REQUIRE", "").split(","):
            pytest.fail(f"{why} – EDGEWISE_REQUIRE names it, so this is a failure here")
        pytest.skip(why)
