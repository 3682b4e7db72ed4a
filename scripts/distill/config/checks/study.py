"""Check a study's config before any job starts: names first, then sections and blocks."""

from typing import Any

from distill.config.checks.blocks import block_problems, pool_problems
from distill.config.checks.corpus import corpus_problems
from distill.config.checks.names import name_problems
from distill.config.checks.searches import search_problems
from distill.config.checks.sections import (
    evaluation_problems,
    method_problems,
    prompt_problems,
    reserved_names,
    source_problems,
    student_problems,
    teacher_problems,
)
from distill.config.checks.served import served_twice
from distill.config.checks.shares import with_counts
from distill.config.checks.trained import trained_problems
from distill.config.reading import check_plain, validate
from distill.config.study import Block, Study
from distill.core.errors import UserError


def parse_study(config: dict[str, Any]) -> Study:
    """Validate a config, as read from YAML.

    Raises:
        UserError: One sentence per mistake, each with its key and the remedy.
    """
    check_plain(config)
    study = validate(Study, with_counts(config))
    # Later checks look names up, so they run only if all names exist.
    if problems := name_problems(study) or _problems(study):
        raise UserError("\n".join(f"config: {line}" for line in problems))
    return study


def _problems(study: Study) -> list[str]:
    """Report combinations that cannot work; the names in the study must exist."""
    problems = list(method_problems(study))
    for name, search in study.searches.items():
        problems += search_problems(study, name, search)
    problems += [
        *source_problems(study),
        *corpus_problems(study),
        *prompt_problems(study),
        *teacher_problems(study),
        *served_twice(study),
        *student_problems(study),
        *evaluation_problems(study),
    ]
    for number, block in enumerate(study.runs):
        where = f"runs[{number}]"
        problems += [*_repeats(block, where), *pool_problems(study, block, where)]
    if not problems:
        for number, block in enumerate(study.runs):
            problems += block_problems(study, block, f"runs[{number}]")
    return [*problems, *([] if problems else trained_problems(study)), *reserved_names(study)]


def _repeats(block: Block, where: str) -> list[str]:
    """Report lists of a block with duplicate entries."""
    lists = {key: getattr(block, key) or [] for key in type(block).model_fields}
    return [
        f"{where}.{key}: {values} has a duplicate; list each entry once"
        for key, values in lists.items()
        if len(set(values)) < len(values)
    ]
