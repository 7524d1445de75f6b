"""The room's table of contents."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import edgewise.ports


@pytest.mark.parametrize("name", edgewise.ports.__all__)
def test_every_name_of_the_table_of_contents_is_there(name):
    assert getattr(edgewise.ports, name) is not None


def test_an_unknown_name_is_an_ordinary_mistake():
    with pytest.raises(AttributeError, match="no attribute 'Telepathy'"):
        importlib.import_module("edgewise.ports").Telepathy  # noqa: B018


def test_a_command_that_only_talks_to_a_hub_loads_no_numpy():
    code = "import sys, edgewise.ports.api; sys.exit('numpy' in sys.modules or 'PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
