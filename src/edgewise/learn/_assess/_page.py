"""The assessment as one HTML page: no script, nothing loaded from elsewhere, readable when printed."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from edgewise.learn._assess._assess import Assessment

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #8884; }
th:first-child, td:first-child { text-align: left; }
.error { border-left: .4rem solid #c0392b; }
.warning { border-left: .4rem solid #d68910; }
.note { border-left: .4rem solid #7f8c8d; }
li { list-style: none; padding: .3rem .8rem; margin: .5rem 0; }
ul { padding: 0; }
.word { font-size: 1.4rem; font-weight: 600; }
.names { font-family: ui-monospace, monospace; font-size: .85rem; overflow-wrap: anywhere; }
svg { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; }
"""
ABOUT = "Mean recall of a plain model on groups that it never saw; right of the dotted line it is a guess."
WIDTH, HEIGHT, LEFT, BELOW = 640, 240, 44, 28


def page(found: Assessment) -> str:
    """The page as text."""
    return "\n".join(_lines(found)) + "\n"


def _lines(found: Assessment) -> Iterator[str]:
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>Readiness of {escape(found.source)}</title><style>{STYLE}</style></head><body>"
    yield f"<h1>Readiness of {escape(found.source)}</h1>"
    part = "" if found.looked_at == found.samples else f", {found.looked_at} of them looked at"
    yield f'<p class="word">{escape(found.word)}</p>'
    yield f"<p>{found.samples} samples in {found.groups} groups{part}.</p>"
    yield "<h2>Findings</h2><ul>"
    for one in found.findings:
        yield f'<li class="{one.severity}"><strong>{one.severity}</strong> {escape(one.text)}.'
        if one.samples:
            more = f" and {one.count - len(one.samples)} more" if one.count > len(one.samples) else ""
            yield "<details><summary>which</summary>"
            yield f'<p class="names">{escape(", ".join(one.samples))}{more}</p></details>'
        yield "</li>"
    yield "</ul>" if found.findings else "</ul><p>Nothing stands against training on it.</p>"
    yield "<h2>Samples by site and class</h2>"
    yield from _table(found)
    if found.curve is not None:
        yield "<h2>Labels and what they bring</h2>"
        yield f"<p>{ABOUT}</p>"
        yield from _curve(found.curve)
    yield "</body></html>"


def _table(found: Assessment) -> Iterator[str]:
    labels = sorted({label for counts in found.by_site.values() for label in counts})
    yield '<div class="scroll"><table><thead><tr><th scope="col">site</th>'
    yield "".join(f'<th scope="col">{escape(label)}</th>' for label in labels) + "</tr></thead><tbody>"
    for site, counts in found.by_site.items():
        cells = "".join(f"<td>{counts.get(label, 0)}</td>" for label in labels)
        yield f'<tr><th scope="row">{escape(site or "(unnamed)")}</th>{cells}</tr>'
    yield "</tbody></table></div>"


def _curve(curve: dict[str, Any]) -> Iterator[str]:
    points: list[list[float]] = curve["points"]
    largest = points[-1][0]

    def place(size: float, score: float) -> tuple[float, float]:
        return LEFT + (WIDTH - LEFT - 8) * size / largest, 8 + (HEIGHT - 8 - BELOW) * (1 - score)

    line = " ".join("{:.1f},{:.1f}".format(*place(size, score)) for size, score in points)
    seen, _ = place(curve["labels"], 0)
    _, target = place(0, curve["target"])
    right, bottom = WIDTH - 8, HEIGHT - BELOW
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    yield f'<svg {size} role="img" aria-label="learning curve">'
    yield _stroke(LEFT, bottom, right, bottom, "currentColor")
    yield _stroke(LEFT, target, right, target, "#d68910", "6 4")
    yield _stroke(seen, 8, seen, bottom, "#7f8c8d", "2 4")
    yield f'<polyline points="{line}" fill="none" stroke="#2471a3" stroke-width="2"/>'
    for score in (0, 0.5, 1):
        yield _text(LEFT - 6, place(0, score)[1] + 5, f"{score:g}")
    for labels in (curve["labels"], largest):
        yield _text(place(labels, 0)[0], HEIGHT - 8, f"{labels:g}")
    yield "</svg>"


def _stroke(x1: float, y1: float, x2: float, y2: float, colour: str, dashes: str = "") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dashed}/>'


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="end" font-size="12" fill="currentColor">{text}</text>'
