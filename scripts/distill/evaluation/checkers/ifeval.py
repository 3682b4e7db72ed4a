"""An answer meets constraints of IFEval (Zhou 2023), by the strict check of if-verifiable."""

import functools
from collections.abc import Mapping
from typing import Any

from distill.runtime.imports import quick_imports


@functools.cache
def _checkers() -> dict[str, Any]:
    with quick_imports():  # NLTK is below, and would take scipy along
        from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT
    return dict(INSTRUCTION_DICT)


def passes(answer: str, constraints: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the answer meets every constraint, by id with its arguments.

    An answer that is empty, only white space or an open thinking block fails. The detection of
    languages is seeded, so the verdict depends on the arguments alone. As in IFEval, a text without
    any letter passes a response-language constraint.

    Raises:
        ValueError: A constraint has an unknown id, lacks an argument, or has one too many.
        Exception: Whatever a checker raises, which is a fault of the arguments.
    """
    from if_verifiable.common import strip_thinking
    from langdetect import DetectorFactory

    DetectorFactory.seed = 0
    text = strip_thinking(answer)
    verdicts = []
    for kind, arguments in constraints.items():
        if kind not in _checkers():
            raise ValueError(f"{kind} is not one of IFEval's constraints")
        checker = _checkers()[kind](kind)
        checker.build_description(**arguments)
        names = set(checker.get_instruction_args_keys())
        if set(arguments) != names:
            raise ValueError(f"{kind} needs {sorted(names)}, has {sorted(arguments)}")
        verdicts.append(bool(text) and bool(checker.check_following(text)))
    return bool(verdicts) and all(verdicts)
