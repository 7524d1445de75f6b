"""Is this data ready to learn from? Counts, copies, leaks, doubtful labels, sites that differ, what is missing."""

from __future__ import annotations

from edgewise.learn._assess._assess import Assessment, Finding, assess
from edgewise.learn._assess._page import page

__all__ = ["Assessment", "Finding", "assess", "page"]
