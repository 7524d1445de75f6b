"""The pipelines that ``edge.yaml`` describes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import Field

from edgewise.edge._period import Act
from edgewise.edge._pipelines import PipelinePart
from edgewise.edge._source_text import as_spec
from edgewise.ports import Clock, Source, open_source
from edgewise.wire import NotValid, SourceSpec, Strict
from edgewise.wire._record import Name


class PipelineConfig(Strict):
    """One of several sources of a device, each decided on by itself."""

    name: Name
    source: SourceSpec | str = Field(description="a source as a record, or as a text: docs/sources.md")
    sinks: tuple[Name, ...] | None = Field(
        None, max_length=16, description="sinks of the use case that hear its decisions; all of them without it"
    )

    @property
    def spec(self) -> SourceSpec:
        """The source, in full."""
        return as_spec(self.source)


def parts_of(
    pipelines: Sequence[PipelineConfig],
    source: SourceSpec | str | Path | None,
    *,
    clock: Clock,
    make_act: Callable[[], Act | None] = lambda: None,
    settle: Callable[[SourceSpec], SourceSpec] = lambda spec: spec,
) -> list[PipelinePart]:
    """The pipelines that are described, or the one named main on a source.

    Args:
        pipelines: of ``edge.yaml``.
        source: of the only pipeline, where none is described.
        make_act: makes the app's function, one for each of them.
        settle: fills in what only this device knows.
    Raises:
        NotValid: both are given, or none; a text that means no source.
    """
    if pipelines and source is not None:
        raise NotValid(
            f"edge.yaml names {len(pipelines)} pipelines with their sources; leave out the other source",
            code="source_twice",
        )
    if not pipelines and source is None:
        raise NotValid("no source; name one, or pipelines in edge.yaml", code="source_missing")
    if source is not None:
        opening = functools.partial(_open, settle(as_spec(source)), clock)
        return [PipelinePart(open_source=opening, act=make_act(), patient=False)]
    return [
        PipelinePart(
            name=one.name,
            open_source=functools.partial(_open, settle(one.spec), clock),
            act=make_act(),
            sinks=one.sinks,
        )
        for one in pipelines
    ]


def _open(spec: SourceSpec, clock: Clock, after: str | None) -> Source:
    return open_source(spec, after, clock=clock)
