"""The OpenAPI document as one page of HTML: no script, no asset from anywhere, readable without a network."""

from __future__ import annotations

import json
from html import escape
from typing import Any

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1c2733;background:#fff}
h2{margin-top:2.2rem;border-bottom:1px solid #d5dde5} details{border:1px solid #d5dde5;border-radius:6px;margin:.4rem 0}
summary{padding:.45rem .7rem;cursor:pointer} .in{padding:0 1rem 1rem} code,pre{font:13px/1.45 ui-monospace,monospace}
pre{background:#f3f6f9;padding:.7rem;overflow:auto;border-radius:4px}
.m{display:inline-block;min-width:4.2em;font-weight:600}
.GET{color:#0b6e4f}.POST{color:#8a4b08}.PUT{color:#5b3d99}.HEAD{color:#55606b} table{border-collapse:collapse}
td,th{text-align:left;padding:.2rem .8rem .2rem 0;vertical-align:top} .q{color:#55606b}
@media(prefers-color-scheme:dark){body{background:#14191f;color:#dde5ec}pre{background:#1e262e}
details,h2{border-color:#36424e}.GET{color:#5fd0a5}.POST{color:#e9a860}.PUT{color:#b79cf0}.q,.HEAD{color:#9aa7b3}}
"""


def page(document: dict[str, Any]) -> str:
    """The whole page for an OpenAPI 3.1 document."""
    groups: dict[str, list[str]] = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            tag = (operation.get("tags") or ["other"])[0]
            groups.setdefault(tag, []).append(_operation(method.upper(), path, operation))
    body = "".join(f"<h2>{escape(tag)}</h2>{''.join(parts)}" for tag, parts in sorted(groups.items()))
    schemas = document.get("components", {}).get("schemas", {})
    shown = "".join(_schema(name, schema) for name, schema in sorted(schemas.items()))
    info = document["info"]
    title = f"{escape(info['title'])} {escape(info['version'])}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{title}</title><style>{STYLE}</style><h1>{title}</h1><p>{escape(info.get('description', ''))}</p>"
        f"<p class=q>The same as a document for programs: <a href=/openapi.json>/openapi.json</a></p>"
        f"{body}<h2>Records</h2>{shown}</html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    text = escape(operation.get("summary", ""))
    parts = [f"<p>{escape(operation.get('description', ''))}</p>"]
    if operation.get("parameters"):
        rows = "".join(
            f"<tr><td><code>{escape(one['name'])}</code><td class=q>{escape(one['in'])}"
            f"{' · required' if one.get('required') else ''}<td>{_type(one.get('schema', {}))}"
            f"<td>{escape(one.get('description', ''))}"
            for one in operation["parameters"]
        )
        parts.append(f"<table>{rows}</table>")
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<p>Body <code>{escape(media_type)}</code>: {_type(content.get('schema', {}))}</p>")
    rows = "".join(
        f"<tr><td><code>{escape(str(status))}</code><td>{escape(answer.get('description', ''))}<td>{_answer(answer)}"
        for status, answer in operation.get("responses", {}).items()
    )
    parts.append(f"<table>{rows}</table>")
    return (
        f"<details><summary><span class='m {method}'>{method}</span> <code>{escape(path)}</code> "
        f"<span class=q>{text}</span></summary><div class=in>{''.join(parts)}</div></details>"
    )


def _answer(answer: dict[str, Any]) -> str:
    return ", ".join(_type(content.get("schema", {})) for content in answer.get("content", {}).values())


def _type(schema: dict[str, Any]) -> str:
    """A schema in a few words, with links to named records."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"<a href='#{escape(name)}'>{escape(name)}</a>"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return " or ".join(_type(option) for option in options)
    return escape(str(schema.get("type", "anything")))


def _schema(name: str, schema: dict[str, Any]) -> str:
    text = escape(json.dumps(schema, indent=1, ensure_ascii=False))
    return f"<details id='{escape(name)}'><summary><code>{escape(name)}</code></summary><pre>{text}</pre></details>"
