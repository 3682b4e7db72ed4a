"""Names that must lead somewhere are found by their type."""

from typing import Any, get_args

from pydantic import BaseModel, StringConstraints

import tiny
from distill.config.checks.names import name_problems
from distill.config.checks.study import parse_study
from distill.config.study import Study
from distill.config.values import Name, Ref

PATTERN = next(mark for mark in Name.__metadata__ if isinstance(mark, StringConstraints))  # type: ignore[attr-defined]


def _sections(section: type[BaseModel]) -> set[type[BaseModel]]:
    """A section and all sections below it."""
    below = {section}
    for info in section.model_fields.values():
        for part in _parts(info.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel) and part not in below:
                below |= _sections(part)
    return below


def _parts(annotation: Any) -> list[Any]:
    return [annotation, *(inner for part in get_args(annotation) for inner in _parts(part))]


def _marks(annotation: Any) -> list[Any]:
    return [mark for part in _parts(annotation) for mark in getattr(part, "__metadata__", ())]


def test_every_name_in_a_section_says_its_table() -> None:
    plain = []
    for section in _sections(Study):
        for field, info in section.model_fields.items():
            marks = [*info.metadata, *_marks(info.annotation)]
            kinds = _parts(info.annotation)
            table = any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds)
            if PATTERN in marks and not table and not any(isinstance(m, Ref) for m in marks):
                plain.append((section.__name__, field))
    assert plain == [("Study", "study")]


def test_names_are_found_in_lists_mappings_keys_and_below() -> None:
    study = parse_study(tiny.study())
    assert name_problems(study) == []
    block = study.runs[0].model_copy(update={"students": ["gone"], "curations": ["raw", "lost"]})
    problems = name_problems(study.model_copy(update={"runs": [block]}))
    assert [line.partition(";")[0] for line in problems] == [
        "runs[0].students: there is no student 'gone'",
        "runs[0].curations: there is no curation 'lost'",
    ]
