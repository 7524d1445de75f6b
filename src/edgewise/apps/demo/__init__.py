"""The demo: a whole application around the loop with real processes, and a report of what happened."""

from edgewise.apps.demo._run import Settings, run_demo

__all__ = ["Settings", "run_demo"]
