"""Whether the prompts of local data fit what models read, counted with the teachers' tokenizers."""

import importlib.util
from collections.abc import Iterator
from typing import Any

from distill.config.row_counts import known_rows, least_rows
from distill.core.errors import UserError
from distill.core.model_files import context_of
from distill.plan.study import Plan
from distill.workflow.local_models import UsedModels

MOST_COUNTED = 5000
"""Prompts above which they are not counted: formatting them would take too long."""


def prompt_length_notes(plan: Plan) -> list[str]:
    """Report prompts that are too long for a model; which prompts a study takes is not known yet.

    Without transformers in this environment (jobs may bring theirs) nothing is counted.

    Raises:
        UserError: So many are too long that the study must take one.
    """
    prompts = plan.pool.settings
    source = plan.study.sources.get(prompts.source) if plan.pool.asks else None
    missing = importlib.util.find_spec("transformers") is None
    if source is None or source.path is None or missing:
        return []
    known = known_rows(plan.study, prompts.source, prompts.max_tokens)
    if known is None or known.fitting > MOST_COUNTED:
        return []
    models, notes = UsedModels(plan), []
    rows = list(_prompts(plan))
    for name, most, limit in _limits(models):
        lengths = sorted(_lengths(plan, models, name, rows))
        fitting = sum(length <= most for length in lengths)
        if fitting == len(lengths):
            continue
        sentence = (
            f"prompts.max_tokens: {len(lengths) - fitting} of {len(lengths)} prompts, the longest "
            f"of {lengths[-1]} tokens, leave no room in {limit}; lower it, so that longer prompts "
            "are left out"
        )
        if fitting < least_rows(prompts):
            raise UserError(f"config: {sentence}")
        notes.append(sentence)
    return notes


def _limits(models: UsedModels) -> Iterator[tuple[str, int, str]]:
    """Teacher, most tokens of a prompt that it answers or that its students learn, and what sets
    that limit."""
    for name, source in models.teachers.items():
        if source not in models.folders:
            continue
        entry, context = models.study.teachers[name], context_of(models.configs[source])
        if entry.writes and context:
            answer = f"{entry.max_tokens} for its answer"
            limit = f"the context of teachers.{name} ({context} tokens, {answer})"
            yield name, context - entry.max_tokens, limit
        most = models.study.train.max_length
        yield name, most - 1, f"train.max_length ({most})"


def _prompts(plan: Plan) -> Iterator[dict[str, Any]]:
    """Rows whose prompts are short enough by their estimated tokens."""
    from distill.core.rows.lengths import prompt_tokens
    from distill.core.rows.reading import DataSet

    prompts = plan.pool.settings
    for row in DataSet(plan.study.source_spec(prompts.source)).rows():
        if prompt_tokens(row) <= prompts.max_tokens:
            yield row


def _lengths(
    plan: Plan, models: UsedModels, teacher: str, rows: list[dict[str, Any]]
) -> Iterator[int]:
    """Tokens of each prompt as a teacher reads it."""
    from distill.models.formatting import asked, encoder
    from distill.models.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(models.folders[models.teachers[teacher]])
    encode = encoder(tokenizer, **plan.pool.formatting)
    return (len(encode(*asked(row))) for row in rows)
