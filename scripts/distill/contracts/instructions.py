"""Verifiable instructions: a request with checks, IFEval's constraints, and files of its form."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.core.errors import UserError

TYPES: Mapping[str, tuple[str, ...]] = {
    "keywords:existence": ("keywords",),
    "keywords:frequency": ("keyword", "frequency", "relation"),
    "keywords:forbidden_words": ("forbidden_words",),
    "keywords:letter_frequency": ("letter", "let_frequency", "let_relation"),
    "language:response_language": ("language",),
    "length_constraints:number_paragraphs": ("num_paragraphs",),
    "length_constraints:number_words": ("num_words", "relation"),
    "length_constraints:nth_paragraph_first_word": (
        "num_paragraphs",
        "nth_paragraph",
        "first_word",
    ),
    "detectable_content:number_placeholders": ("num_placeholders",),
    "detectable_content:postscript": ("postscript_marker",),
    "detectable_format:number_bullet_lists": ("num_bullets",),
    "detectable_format:constrained_response": (),
    "detectable_format:number_highlighted_sections": ("num_highlights",),
    "detectable_format:multiple_sections": ("section_spliter", "num_sections"),
    "detectable_format:json_format": (),
    "detectable_format:title": (),
    "combination:two_responses": (),
    "combination:repeat_prompt": ("prompt_to_repeat",),
    "startend:end_checker": ("end_phrase",),
    "change_case:english_capital": (),
    "change_case:english_lowercase": (),
    "punctuation:no_comma": (),
    "startend:quotation": (),
}
"""IFEval's constraints (Zhou 2023) that are in use, each with its arguments."""
NEED_NLTK = ("length_constraints:number_sentences", "change_case:capital_word_frequency")
"""The other two, whose checkers need data of NLTK."""


@dataclass(frozen=True)
class Instruction:
    """A request together with the constraints that its answer has to meet.

    Attributes:
        id: Unique in its set.
        prompt: The request.
        instruction_id_list: Constraint types in IFEval's vocabulary.
        kwargs: Arguments of each, in the same order.
        checks: Further checks by the config's names, each with its argument.
        row: The row that the request is taken from, with context, system and turns.
    """

    id: str
    prompt: str
    instruction_id_list: tuple[str, ...] = ()
    kwargs: tuple[dict[str, Any], ...] = ()
    checks: Mapping[str, Any] = field(default_factory=dict)
    row: Mapping[str, Any] | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """All checks, with their arguments."""
        named = dict(zip(self.instruction_id_list, self.kwargs, strict=True))
        return {**({"ifeval": named} if named else {}), **self.checks}


def read_ifeval(path: str | Path) -> list[Instruction]:
    """Instructions of a file as IFEval's: JSON lines with prompt, instruction_id_list and kwargs.

    Arguments that are null are left out, as in the file that IFEval's authors publish.

    Raises:
        UserError: A line is malformed, or names an instruction type that is not in use.
    """
    items = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            kinds = [str(kind) for kind in record["instruction_id_list"]]
            kwargs = [
                {key: value for key, value in (given or {}).items() if value is not None}
                for given in record.get("kwargs") or [{}] * len(kinds)
            ]
            prompt = record["prompt"]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"{path}, line {number}: not an instruction of IFEval's form "
                f"({type(error).__name__}: {error}); write "
                '{"prompt": "...", "instruction_id_list": ["..."], "kwargs": [{...}]}'
            ) from None
        if len(kinds) != len(kwargs) or not kinds or not isinstance(prompt, str):
            raise UserError(
                f"{path}, line {number}: {len(kinds)} instruction ids have {len(kwargs)} kwargs; "
                "give a text as prompt, at least one id, and one object per id"
            )
        for kind, given in zip(kinds, kwargs, strict=True):
            if fault := _fault(kind, given):
                raise UserError(f"{path}, line {number}: {fault}")
        name = str(record.get("key", f"line-{number}"))
        items.append(Instruction(name, prompt, tuple(kinds), tuple(kwargs)))
    if len({item.id for item in items}) < len(items):
        raise UserError(f"{path}: two lines have the same key; give each its own, or none")
    return items


def _fault(kind: str, given: Mapping[str, Any]) -> str | None:
    """What is wrong with a constraint and its arguments, or None."""
    if kind in NEED_NLTK:
        return f"{kind} needs data of NLTK, which is not downloaded; leave the line out"
    if kind not in TYPES:
        return f"{kind} is not a constraint of IFEval; use one of {', '.join(TYPES)}"
    if set(given) != set(TYPES[kind]):
        needed = ", ".join(TYPES[kind]) or "no arguments"
        return f"{kind} needs {needed}, but has {', '.join(given) or 'none'}; correct its kwargs"
    return None


_LEAST_WORDS: Mapping[str, str] = {
    "length_constraints:number_words": "num_words",
    "length_constraints:number_sentences": "num_sentences",
    "length_constraints:number_paragraphs": "num_paragraphs",
    "detectable_format:number_bullet_lists": "num_bullets",
    "detectable_format:number_highlighted_sections": "num_highlights",
    "detectable_content:number_placeholders": "num_placeholders",
}
"""Arguments that are a least number of words, apart from those with `relation`."""


def least_words(instruction: Instruction) -> int:
    """A lower bound on the words of an answer that passes, to compare with a limit on tokens."""
    least = 1
    checks = instruction.arguments
    for kind, given in checks.get("ifeval", {}).items():
        if given.get("relation", "at least") == "at least" and kind in _LEAST_WORDS:
            least = max(least, int(given.get(_LEAST_WORDS[kind], 1)))
        least = max(least, len(given.get("keywords", ())))
        least = max(least, len(str(given.get("prompt_to_repeat", "")).split()))
    least = max(least, sum(len(text.split()) for text in set(checks.get("contains", ()))))
    return max(least, len(str(checks.get("exact", "")).split()))
