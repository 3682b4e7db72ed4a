"""What `distill check` tries with the tokenizers of local models; the start of a run does not."""

import importlib.util
import json
from pathlib import Path
from typing import Any

from distill.core.errors import UserError
from distill.core.rows.survey import survey
from distill.plan.study import Plan
from distill.workflow.local_models import UsedModels


def check_tokenizers(plan: Plan) -> None:
    """Open each local tokenizer and format a prompt as the study does, with its system turn.

    Without transformers in this environment (jobs may bring theirs) nothing is tried.

    Raises:
        UserError: A tokenizer is missing or damaged, a chat template fails, or no token ends an
            answer.
    """
    models = UsedModels(plan)
    folders = models.folders
    if not folders or importlib.util.find_spec("transformers") is None:
        return
    import transformers

    transformers.logging.set_verbosity_error()
    for name, folder in folders.items():
        try:
            _check(models, name, folder)
        except UserError as error:
            raise UserError(f"config: sources.{name}: {error}") from None


def _check(models: UsedModels, name: str, folder: Path) -> None:
    """Open one tokenizer and format a prompt, if it formats the study's."""
    from distill.models.formatting import encoder, magpie_prefix
    from distill.models.tokenizers import load_tokenizer
    from distill.models.turns import turns_of

    plan, tokenizer = models.plan, load_tokenizer(folder)
    if not plan.pool.asks or name not in models.formatting:
        return
    teachers = [teacher for teacher, source in models.teachers.items() if source == name]
    each = [plan.teachers.formatting(teacher) for teacher in teachers] or [plan.pool.formatting]
    for formatting in each:
        encode = encoder(tokenizer, **formatting)
        for context in (None, "A boat."):
            encode("What is this?", context)
        _try_chats(plan, encode)
        turns_of(tokenizer, formatting["template"])
    writer = plan.study.rows.teacher
    if writer is not None and models.teachers.get(writer) == name:
        given = plan.teachers.formatting(writer).items()
        magpie_prefix(tokenizer, **{key: value for key, value in given if key in _PREFIX})


def _try_chats(plan: Plan, encode: Any) -> None:
    """Format a prompt with its own system text and earlier turns, if the study's rows have any."""
    source = plan.study.sources.get(plan.study.rows.source)
    if source is None or source.path is None:
        return
    numbers = survey(plan.study.source_spec(plan.study.rows.source))
    if numbers is not None and numbers.systems + numbers.chats:
        turns = [{"role": role, "content": "A boat."} for role in ("user", "assistant")]
        encode(
            "What is this?",
            None,
            "Be brief." if numbers.systems else None,
            json.dumps(turns) if numbers.chats else None,
        )


_PREFIX = ("system", "date", "settings")
"""Keys of a prompt's formatting that generated prompts depend on too."""
