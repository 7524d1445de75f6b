"""The factory's use case as text: as it stands for the three real plants, or with the plants of `world.py`."""

from __future__ import annotations

from importlib.resources import files
from typing import Literal

import yaml

from edgewise.apps.factory.world import GOOD, KNOWN, NAMES, PLANTS

FILE = "usecase.yaml"


def use_case_text(data: Literal["real", "generated"] = "real") -> str:
    """`usecase.yaml` for these data: what is judged, kept or forbidden is the same for both.

    >>> "plant-a" in use_case_text("real"), "north" in use_case_text("generated")
    (True, True)
    """
    text = files("edgewise.apps.factory").joinpath(FILE).read_text(encoding="utf-8")
    if data == "real":
        return text
    values = yaml.safe_load(text)
    values["outcome"] |= {"labels": [GOOD, *KNOWN], "good_labels": [GOOD], "labels_that_matter": ["crack"]}
    values["sites"] = [
        {"name": name, "labels": {"drift": plant.drift}} for name, plant in zip(NAMES, PLANTS, strict=True)
    ]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
