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
    folders = UsedModels(plan).folders
    if not folders or importlib.util.find_spec("transformers") is None:
        return
    import transformers

    transformers.logging.set_verbosity_error()
    for name, folder in folders.items():
        try:
            _check(plan, name, folder)
        except UserError as error:
            raise UserError(f"config: sources.{name}: {error}") from None


def _check(plan: Plan, name: str, folder: Path) -> None:
    """Open one tokenizer and format a prompt, if models answer prompts."""
    from distill.models.formatting import encoder, magpie_prefix
    from distill.models.tokenizers import load_tokenizer
    from distill.models.turns import turns_of

    tokenizer = load_tokenizer(folder)
    if not plan.pool.asks:
        return
    formatting = plan.pool.formatting
    encode = encoder(tokenizer, **formatting)
    for context in (None, "A boat."):
        encode("What is this?", context)
    source = plan.study.sources.get(plan.study.rows.source)
    if source is not None and source.path is not None:
        numbers = survey(plan.study.source_spec(plan.study.rows.source))
        if numbers is not None and numbers.systems + numbers.chats:
            turns = [{"role": role, "content": "A boat."} for role in ("user", "assistant")]
            encode(
                "What is this?",
                None,
                "Be brief." if numbers.systems else None,
                json.dumps(turns) if numbers.chats else None,
            )
    writer: Any = plan.study.teachers.get(plan.study.rows.teacher or "")
    if writer is not None and writer.source == name:
        given = {key: value for key, value in formatting.items() if key in _PREFIX}
        magpie_prefix(tokenizer, **given)
    turns_of(tokenizer, formatting["template"])


_PREFIX = ("system", "date", "settings")
"""Keys of a prompt's formatting that generated prompts depend on too."""
