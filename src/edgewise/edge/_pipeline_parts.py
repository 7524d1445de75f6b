"""The pipelines that ``edge.yaml`` describes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from edgewise.edge._decider import Act
from edgewise.edge._pipelines import PipelinePart
from edgewise.ports import Clock, FolderSource, Source, open_source
from edgewise.wire import FolderSpec, NotValid, SourceSpec, Strict
from edgewise.wire._record import Name


class PipelineConfig(Strict):
    """One of several sources of a device, each decided on by itself."""

    name: Name
    source: SourceSpec | str = Field(description="a source, docs/sources.md; a text is a folder in which frames appear")
    sinks: tuple[Name, ...] | None = Field(
        None, max_length=16, description="sinks of the use case that hear its decisions; all of them without it"
    )

    @property
    def spec(self) -> SourceSpec:
        """The source, in full."""
        return FolderSpec(path=self.source) if isinstance(self.source, str) else self.source


def parts_of(
    pipelines: Sequence[PipelineConfig], source: Path | None, *, clock: Clock, act: Act | None = None
) -> list[PipelinePart]:
    """The pipelines that are described, or the one named main on a folder.

    Args:
        pipelines: of ``edge.yaml``.
        source: the folder of the only pipeline, where none is described.
        act: the app's pure function, of each of them.
    Raises:
        NotValid: both are given, or none.
    """
    if pipelines and source is not None:
        raise NotValid(
            f"edge.yaml names {len(pipelines)} pipelines with their sources; leave out the other source",
            code="source_twice",
        )
    if not pipelines and source is None:
        raise NotValid("no source; name one, or pipelines in edge.yaml", code="source_missing")
    if source is not None:
        return [PipelinePart(open_source=functools.partial(FolderSource, Path(source)), act=act, patient=False)]
    return [
        PipelinePart(name=one.name, open_source=functools.partial(_open, one.spec, clock), act=act, sinks=one.sinks)
        for one in pipelines
    ]


def _open(spec: SourceSpec, clock: Clock, after: str | None) -> Source:
    return open_source(spec, after, clock=clock)
