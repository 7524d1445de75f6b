"""The surroundings of a real agent process – hub over TLS, data folder, camera – for tests outside its own file."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

# Test files are no modules that can be imported by name; this one holds the surroundings, and stays where they grew.
_SPEC = importlib.util.spec_from_file_location("agent_tests", Path(__file__).parent / "edge" / "test_edge_agent.py")
assert _SPEC is not None
assert _SPEC.loader is not None
_tests = importlib.util.module_from_spec(_SPEC)
sys.modules["agent_tests"] = _tests
_SPEC.loader.exec_module(_tests)

HttpHub = _tests.HttpHub
site = _tests.site  # a fixture
until = _tests.until
