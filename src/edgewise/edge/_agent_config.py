"""The agent's settings: ``edge.yaml`` and the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from edgewise.edge._pipeline_parts import PipelineConfig
from edgewise.edge._pipelines import PIPELINES_MAX
from edgewise.edge._push import PhoneDoor
from edgewise.edge.runtime import RuntimeConfig
from edgewise.ports import RotatingFiles
from edgewise.wire import NotValid, SourceSpec, Strict
from edgewise.wire import explain as wrong

CONFIG_FILE = "edge.yaml"
GIVEN_AS_YAML = {"facts", "phones", "pipelines", "runtime", "source"}  # settings that are more than one word


class AgentConfig(Strict):
    """``edge.yaml`` in the data folder; each field also as ``EDGEWISE_EDGE_<FIELD>``, which wins."""

    collect: bool = Field(default=False, description="before the first bundle: look at frames and keep typical ones")
    ring_bytes: int = Field(default=64_000_000, ge=1_000_000, description="recent frames held in memory")
    idle_s_max: float = Field(default=0.1, gt=0, le=10, description="longest pause between two looks for a new frame")
    pace_s: float = Field(
        default=0.05, gt=0, le=10, description="pause between two looks at records, contacts and updates"
    )
    quiet_s_max: float = Field(
        default=1.0, gt=0, le=10, description="longest pause between two such looks while nothing happens"
    )
    download_bytes_per_s_max: float | None = Field(
        default=None, gt=0, description="most that downloads may take; the use case may ask for less"
    )
    run_ms_max: float = Field(
        default=30_000, ge=100, description="longer in one run of a bundle is a hang: the agent ends itself, says why"
    )
    memory_mb_max: float | None = Field(
        default=None, gt=0, description="of the agent; a bundle under which it holds more is taken back"
    )
    log_bytes_max: int = Field(default=1_000_000, ge=10_000, description="of one file of the device's own log")
    log_files_max: int = Field(default=4, ge=1, le=100, description="files of the log; the oldest goes")
    data_key_from: str = Field(
        default="file",
        min_length=1,
        description="where the key is that locks what lies here: file (in this folder), tpm, or a file's path; a key "
        "in EDGEWISE_EDGE_DATA_KEY or EDGEWISE_EDGE_DATA_KEY_FILE wins",
    )
    facts: dict[str, str | float | int | bool] = Field(
        default_factory=dict, description="facts that the system cannot know, such as network_metered; they win"
    )
    runtime: RuntimeConfig = Field(default_factory=RuntimeConfig, description="how networks run; see RuntimeConfig")
    source: SourceSpec | str | None = Field(
        default=None, description="the only source, as a record or as a text: docs/sources.md"
    )
    phones: PhoneDoor | None = Field(
        default=None, description="a listener over TLS for those who push frames over the network: docs/sources.md"
    )
    pipelines: tuple[PipelineConfig, ...] = Field(
        (), max_length=PIPELINES_MAX, description="several sources; without any there is one, named main"
    )

    @field_validator("pipelines")
    @classmethod
    def _have_names(cls, pipelines: tuple[PipelineConfig, ...]) -> tuple[PipelineConfig, ...]:
        names = [item.name for item in pipelines]
        if len(set(names)) != len(names):
            raise ValueError(f"two pipelines share a name; seen {', '.join(names)}")
        return pipelines


def load_config(data_dir: Path) -> AgentConfig:
    """The agent's settings: environment over file over default.

    Raises:
        NotValid: a setting that does not exist or cannot be; the message names it.
    """
    file = data_dir / CONFIG_FILE
    values: dict[str, Any] = {}
    if file.exists():
        try:
            values = _yaml(str(file), file.read_text()) or {}
        except UnicodeDecodeError as error:
            raise NotValid(f"{file} is not YAML: {error}", code="config_invalid") from error
    for name in AgentConfig.model_fields:
        if (given := os.environ.get(f"EDGEWISE_EDGE_{name.upper()}")) is not None:
            values[name] = _yaml(f"EDGEWISE_EDGE_{name.upper()}", given) if name in GIVEN_AS_YAML else given
    try:
        return AgentConfig.model_validate(values)
    except ValidationError as error:
        raise NotValid(f"{file} or the environment: {wrong(error)}", code="config_invalid") from error


def _yaml(where: str, text: str) -> Any:
    import yaml  # late: most devices have no setting of their own

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise NotValid(f"{where} is not YAML: {error}", code="config_invalid") from error


def log_files(data_dir: Path, config: AgentConfig | None = None) -> RotatingFiles:
    """The files of the device's own log, in ``log/`` of its folder. Raises as `load_config`."""
    config = config or load_config(data_dir)
    return RotatingFiles(data_dir / "log", bytes_max=config.log_bytes_max, files_max=config.log_files_max)
