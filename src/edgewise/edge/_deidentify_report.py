"""What a run of `deidentify` found, did and refused: by kind with counts, never a value that was found."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

REASONS = {
    "content_forbidden": "the policy has no way to make this kind of content private",
    "detector_missing": "faces and plates cannot be looked for: pip install 'edgewise[camera]'",
    "extra_missing": "DICOM cannot be read: pip install 'edgewise[clinic]'",
    "face_found": "it shows what may be a face, and faces are to be dropped",
    "uncertain": "it shows what may be a face or plate, and unsure finds are to be dropped",
    "kind_unknown": "no way is known to make this kind of file private",
    "link": "a link is not followed",
    "name_taken": "another file has the same name once it is private",
    "no_header": "the first line of a CSV must name its columns, each once",
    "only_text": "it is one text, without fields that could be listed",
    "ragged": "a line of a CSV has more or fewer cells than its header",
    "burned_in": "its pixels may show text about the patient",
    "pixels_forbidden": "its pixels are of a kind that cannot be looked into for text",
    "row_too_large": "it holds too many values, or goes too deep",
    "text_too_long": "it holds a text that is too long to be searched",
    "too_large": "it is too large",
    "unreadable": "it is not what its name says, or is damaged",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FileReport:
    """One file: its name as it may be shown, and what became of it."""

    name: str
    action: Literal["private", "refused"]
    kind: str = ""
    done: tuple[str, ...] = ()
    found: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    code: str = ""

    @property
    def reason(self) -> str:
        """Why it was refused, for people. Never the text of an error, which might hold a value."""
        return REASONS.get(self.code, self.code.replace("_", " "))


@dataclass(frozen=True, kw_only=True, slots=True)
class RunReport:
    """All files of a run, in the order of their names."""

    files: tuple[FileReport, ...]
    dry_run: bool = False

    @property
    def refused(self) -> int:
        return sum(file.action == "refused" for file in self.files)

    def summary(self) -> dict[str, Any]:
        """Counts over all files."""
        found: Counter[str] = Counter()
        for file in self.files:
            found.update(file.found)
        return {
            "files": len(self.files),
            "private": len(self.files) - self.refused,
            "refused": self.refused,
            "found": dict(sorted(found.items())),
            "refused_because": dict(sorted(Counter(file.code for file in self.files if file.code).items())),
            "warnings": dict(sorted(Counter(text for file in self.files for text in file.warnings).items())),
            "dry_run": self.dry_run,
        }

    def plain(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """The whole report as JSON values.

        Args:
            about: the settings of the run.
        """
        return {
            **about,
            "summary": self.summary(),
            "files": [{**asdict(file), **({"reason": file.reason} if file.code else {})} for file in self.files],
        }

    def page(self, about: Mapping[str, Any]) -> str:
        """The whole report as one HTML page that needs nothing else."""
        heads = ("file", "kind", "done", "found", "refused because", "warnings")
        rows = (
            (
                file.name,
                file.kind,
                ", ".join(file.done),
                _counts(file.found),
                file.reason if file.code else "",
                "; ".join(file.warnings),
            )
            for file in self.files
        )
        summary = self.summary()
        lines = [(name, _counts(value) if isinstance(value, Mapping) else value) for name, value in summary.items()]
        settings = [(name, value) for name, value in about.items()]
        return (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>De-identification report</title>'
            "<style>body{font:15px/1.4 system-ui;margin:2rem}table{border-collapse:collapse;margin:1rem 0}"
            "td,th{border:1px solid #ccc;padding:.2rem .5rem;text-align:left;vertical-align:top}</style>"
            "<h1>De-identification report</h1><p>Counts only; no value that was found is in this report. "
            "What a detector or pattern does not know it does not find: docs/privacy.md names the limits.</p>"
            f"{_table((), lines)}<h2>Settings</h2>{_table((), settings)}<h2>Files</h2>{_table(heads, rows)}</html>"
        )


def _counts(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in found.items())


def _table(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    head = "".join(f"<th>{html.escape(name)}" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}" for cell in row) for row in rows)
    return f"<table><tr>{head}{body}</table>"
