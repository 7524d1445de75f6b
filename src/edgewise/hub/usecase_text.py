"""``usecase.yaml`` as text: every mistake is named with its line. Pure; YAML and JSON are both taken."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from edgewise.wire import Mistakes, NotValid, RolloutPolicy, UseCase

R = TypeVar("R", bound=BaseModel)

TEXT_BYTES_MAX = 256 << 10
MISTAKES_MAX = 20  # named in one message
SCHEMA_ID = "https://edgewise.example/usecase.schema.json"


def read_usecase(text: str | bytes, *, name: str = "usecase.yaml") -> UseCase:
    """The use case in this text.

    Args:
        name: of the file, for messages.
    Raises:
        NotValid: not YAML, or not a use case; the message has a line for each mistake.

    >>> read_usecase("name: press\\napp: factory\\nsites: [{name: a, labels: 3}]")
    Traceback (most recent call last):
    ...
    edgewise.wire.errors.NotValid: usecase.yaml has 3 mistakes:
      line 1: outcome: Field required
      line 1: people: Field required
      line 3: sites.0.labels: Input should be an object (seen 3)
    """
    return _read(UseCase, _compose(text, name, "a use case starts with fields such as `name: …`"), name)


def read_policy(text: str | bytes, *, name: str = "policy.yaml") -> dict[str, Any]:
    """The fields of a rollout policy that this text gives, as JSON has them.

    Args:
        text: fields of a use case's ``rollout`` section, with or without the line ``rollout:`` above them.
        name: of the file, for messages.
    Raises:
        NotValid: as `read_usecase`.

    >>> read_policy("waves: [{devices: 2}]\\nbake_s: 60")
    {'waves': [{'devices': 2}], 'bake_s': 60.0}
    >>> read_policy("bake_s: 60\\nwave: 3", name="night.yaml")
    Traceback (most recent call last):
    ...
    edgewise.wire.errors.NotValid: night.yaml has a mistake:
      line 2: wave: Extra inputs are not permitted (seen 3)
    """
    root = _compose(text, name, "a policy starts with fields such as `bake_s: 600`")
    inner = [value for key, value in root.value if key.value == "rollout"]
    if len(root.value) == 1 and inner and isinstance(inner[0], yaml.MappingNode):
        root = inner[0]
    return _read(RolloutPolicy, root, name).model_dump(mode="json", exclude_unset=True)


def _read(record: type[R], root: yaml.Node, name: str) -> R:
    try:
        return record.model_validate_json(_json_text(root))
    except ValidationError as error:
        raise _not_valid(name, [told for item in _own(error.errors()) for told in _mistakes(item, root)]) from error


def usecase_schema() -> dict[str, Any]:
    """JSON Schema of ``usecase.yaml``, for editors; ``wire/usecase.schema.json`` holds it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **UseCase.model_json_schema(mode="validation"),
    }


def _compose(text: str | bytes, name: str, begins: str) -> yaml.MappingNode:
    if len(text) > TEXT_BYTES_MAX:
        raise NotValid(f"{name} has {len(text)} bytes, at most {TEXT_BYTES_MAX} are read", code="usecase_invalid")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        aliases = [event for event in yaml.parse(text, Loader=yaml.SafeLoader) if isinstance(event, yaml.AliasEvent)]
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        what = getattr(error, "problem", None) or str(error).splitlines()[0] or type(error).__name__
        raise _not_valid(name, [(0, f"{where}not YAML: {what}")]) from error
    if aliases:
        # A few aliases of aliases can stand for billions of values, and nobody needs them here.
        mark = aliases[0].start_mark
        line = mark.line + 1 if mark is not None else 1
        raise _not_valid(name, [(line, f"line {line}: an alias (*name) is not allowed; write the value out")])
    if not isinstance(root, yaml.MappingNode):
        raise _not_valid(name, [(1, f"line 1: {begins}; see the example apps")])
    twice = list(_repeated(root))
    if twice:
        raise _not_valid(name, twice)
    return root


def _json_text(root: yaml.Node) -> str:
    """The document as JSON, because records are strict about what JSON can say (no dates, no tagged objects)."""
    loader = yaml.SafeLoader("")
    try:
        return json.dumps(loader.construct_document(root), default=str)
    finally:
        loader.dispose()


def _own(errors: Sequence[Any]) -> list[Any]:
    """The errors without those that only follow from one inside: a list is "too short" when its one item is wrong."""
    places = [tuple(item["loc"]) for item in errors]
    return [
        item
        for item, place in zip(errors, places, strict=True)
        if item["type"] != "too_short" or not any(len(p) > len(place) and p[: len(place)] == place for p in places)
    ]


def _mistakes(item: Any, root: yaml.Node) -> Iterator[tuple[int, str]]:
    """One mistake, or each of those that only the whole record shows, at its own place."""
    found = item.get("ctx", {}).get("error")
    if not isinstance(found, Mistakes):
        yield _mistake(item, root)
        return
    for inside, text in found.mistakes:
        where = (*item["loc"], *inside)
        line = _line(root, where)
        yield line, f"line {line}: {'.'.join(str(part) for part in where)}: {text}"


def _mistake(item: Any, root: yaml.Node) -> tuple[int, str]:
    where = tuple(part for part in item["loc"])
    line = _line(root, where)
    shown = ".".join(str(part) for part in where) or "the whole document"
    text = f"line {line}: {shown}: {item['msg'].removeprefix('Value error, ')}"
    if item["type"] not in ("missing",) and not isinstance(item["input"], dict | list):
        text += f" (seen {str(item['input'])[:60]!r})" if isinstance(item["input"], str) else f" (seen {item['input']})"
    return line, text


def _line(node: yaml.Node, where: Sequence[int | str]) -> int:
    """The line of the value at this place, or of the nearest thing around it that is there."""
    line = node.start_mark.line + 1
    for part in where:
        if isinstance(node, yaml.MappingNode):
            pairs = [(key, value) for key, value in node.value if key.value == str(part)]
            if not pairs:
                return line
            line, node = pairs[0][0].start_mark.line + 1, pairs[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line


def _repeated(node: yaml.Node) -> Iterator[tuple[int, str]]:
    """Keys written twice: YAML would silently take the last."""
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key.value, str) and key.value in seen:
                yield line, f"line {line}: {key.value} was given in line {seen[key.value]} already"
            seen[str(key.value)] = line
            children.append(value)
    elif isinstance(node, yaml.SequenceNode):
        children = list(node.value)
    for child in children:
        yield from _repeated(child)


def _not_valid(name: str, mistakes: list[tuple[int, str]]) -> NotValid:
    lines = [text for _, text in sorted(mistakes, key=lambda item: item[0])]
    shown = lines[:MISTAKES_MAX] + ([f"and {len(lines) - MISTAKES_MAX} more"] if len(lines) > MISTAKES_MAX else [])
    count = f"{len(lines)} mistakes" if len(lines) > 1 else "a mistake"
    return NotValid(f"{name} has {count}:\n  " + "\n  ".join(shown), code="usecase_invalid")
