"""Checks that names in a config are keys of its mappings; the type of a field marks a name."""

import difflib
import operator
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel

from distill.config.study import Study
from distill.config.values import Ref


def name_problems(study: Study) -> list[str]:
    """Report unknown names and sources of the wrong kind, each in a sentence with its key."""
    return [
        problem
        for key, name, ref in _names(study, "")
        if name not in ref.besides and (problem := _problem(study, key, name, ref))
    ]


def unknown(key: str, name: str, table: Mapping[str, Any], kind: str) -> str:
    """The error on an unknown name, with the closest known one."""
    close = difflib.get_close_matches(name, table, 1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(table) or 'none'}"
    return f"{key}: there is no {kind} {name!r}; {hint}"


def _problem(study: Study, key: str, name: str, ref: Ref) -> str | None:
    table = operator.attrgetter(ref.table)(study)
    if name not in table:
        return unknown(key, name, {**dict.fromkeys(ref.besides), **table}, ref.kind)
    if ref.data is None or table[name].is_data == ref.data:
        return None
    kind = "data set (with fields)" if ref.data else "model (without fields)"
    return f"{key}: the source {name!r} must be a {kind}"


def _names(section: BaseModel, key: str) -> Iterator[tuple[str, str, Ref]]:
    """Key, name and `Ref` of every reference in a section and its subsections."""
    for field, info in type(section).model_fields.items():
        value = getattr(section, field)
        path = f"{key}.{field}" if key else field
        ref = next((mark for mark in info.metadata if isinstance(mark, Ref)), None)
        ref = ref or _ref_in(info.annotation)
        if ref is None:
            yield from _below(value, path)
        elif value is not None:
            names = [value] if isinstance(value, str) else value
            yield from ((path, name, ref) for name in names)


def _below(value: Any, key: str) -> Iterator[tuple[str, str, Ref]]:
    if isinstance(value, BaseModel):
        yield from _names(value, key)
    elif isinstance(value, dict):
        for name, entry in value.items():
            yield from _below(entry, f"{key}.{name}")
    elif isinstance(value, list):
        for number, entry in enumerate(value):
            yield from _below(entry, f"{key}[{number}]")


def _ref_in(annotation: Any) -> Ref | None:
    """The `Ref` in a type such as `list[StudentName] | None`; for a mapping, that of its keys."""
    marks = [mark for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, Ref)]
    if marks:
        return marks[0]
    return next((ref for part in get_args(annotation) if (ref := _ref_in(part))), None)
