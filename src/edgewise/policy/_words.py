"""What may be said about errors and frames by each way out: an error may quote a name or a value of a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgewise.policy._leave import Forbidden, may_leave
from edgewise.wire import DataPolicy, EdgewiseError, Exit, RecordClass


def may_name_frames(policy: DataPolicy, way: Exit | RecordClass | str) -> bool:
    """Whether frames, groups and facts may be named by this way out.

    By the local API and in logs where the policy lists them; in anything that goes to the hub where its fields list
    ``frame``.

    >>> may_name_frames(DataPolicy(), "local-api"), may_name_frames(DataPolicy(), "log")
    (True, False)
    """
    try:
        may_leave(policy, way)
    except Forbidden:
        return False
    return way in ("local-api", "log") or "frame" in policy.fields


def hide_words(policy: DataPolicy, text: str, *, frame: str, group: str, facts: Mapping[str, Any]) -> str:
    """A sentence of the app about a frame, without the names and facts that the policy does not let travel.

    >>> hide_words(DataPolicy(fields=()), "stop: Ada at press 4", frame="7.jpg", group="", facts={"operator": "Ada"})
    'stop: [operator] at press 4'
    """
    hidden = {name: str(value) for name, value in facts.items() if name not in policy.fields and not _is_short(value)}
    hidden |= {name: word for name, word in (("frame", frame), ("group", group)) if word and name not in policy.fields}
    for name, word in _longest_first(hidden.items()):
        text = text.replace(word, f"[{name}]")
    return text


def _is_short(value: Any) -> bool:
    """A number or two letters are in many words; to replace them hides nothing and spoils the sentence."""
    return not isinstance(value, str) or len(value) < 3


def _longest_first(words: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted(words, key=lambda item: -len(item[1]))


def error_words(error: BaseException, *, names: bool) -> str:
    """An error in a few words: its text where frames may be named, else its kind, code and place in the program.

    >>> error_words(ValueError("could not convert string to float: 'Ada'"), names=False)
    'ValueError'
    """
    kind = type(error).__name__
    if names:
        return f"{kind}: {error}"
    code = f" ({error.code})" if isinstance(error, EdgewiseError) else ""
    return f"{kind}{code}{_place(error)}"


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
