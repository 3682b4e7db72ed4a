"""Text rows from a data set's own responses, without the library that runs models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.contracts.costs import FREE
from distill.contracts.schemas import TEXT_SCHEMA
from distill.core.checksums import tokenizer_sha256
from distill.core.errors import UserError
from distill.core.parquet import read_rows, write_rows
from distill.models.formatting import asked, encoder
from distill.models.tokenizers import context_of, load_tokenizer
from distill.models.turns import answer_ids, turns_of


def ready_made_text(
    prompts: Sequence[dict[str, Any]],
    name: str,
    tokenizer: Any = None,
    formatting: dict[str, Any] | None = None,
    context: int | None = None,
) -> list[dict[str, Any]]:
    """Text rows from a data set's own responses, at no cost.

    Args:
        prompts: Rows of a kept prompt part.
        name: The teacher's name, for errors.
        tokenizer: Of the teacher that is to score the text, whose tokens the rows then carry (each
            response ends as its turns end); None without such a teacher.
        formatting: template and system, with a tokenizer.
        context: Most tokens that the teacher reads; a longer response is cut, and has no end then.

    Raises:
        UserError: A response is empty, or a prompt leaves no room for one.
    """
    rows = []
    encode = turns = None
    if tokenizer is not None and formatting:
        encode = encoder(tokenizer, **formatting)
        turns = turns_of(tokenizer, formatting["template"])
    for row in prompts:
        if not (row["reference"] or "").strip():
            raise UserError(
                f"{name}: the prompt {row['prompt'][:60]!r} has an empty response; remove that row"
            )
        ids: tuple[Any, Any] = (None, None)
        response, reason = row["reference"], "stop"
        if encode is not None and turns is not None:
            prompt = encode(*asked(row))
            answer, response = answer_ids(tokenizer, response, turns)
            room = len(answer) if context is None else context - len(prompt)
            if room < 1:
                raise UserError(
                    f"{name}: the prompt {row['prompt'][:60]!r} has {len(prompt)} tokens but the "
                    f"teacher reads at most {context}; lower prompts.max_tokens"
                )
            if len(answer) > room:
                answer, reason = answer[:room], "length"
                response = tokenizer.decode(answer)
            ids = prompt, answer
        rows.append(
            {
                "id": row["id"],
                "row": row["row"],
                "prompt": row["prompt"],
                "context": row["context"],
                "response": response,
                "reference": row["reference"],
                "system": row.get("system"),
                "turns": row.get("turns"),
                "prompt_ids": ids[0],
                "response_ids": ids[1],
                "finish_reason": reason,
                **FREE.columns("teacher_"),
            }
        )
    return rows


def take_text(
    prompts: str | Path,
    model: str | Path | None,
    out: str | Path,
    spec: dict[str, Any],
    teacher: str,
) -> None:
    """Use a data set's own answers to one part of the prompts; see `ready_made_text`.

    Args:
        prompts: The part of the prompts.
        model: A file in the directory of the teacher that is to score the text; None without one.
        out: The text, rows of `TEXT_SCHEMA`.
        spec: formatting, with a model; stored in the text.
        teacher: The teacher's name, for errors.
    """
    folder = Path(model).parent if model else None
    tokenizer, context = (load_tokenizer(folder), context_of(folder)) if folder else (None, None)
    rows = ready_made_text(read_rows(prompts), teacher, tokenizer, spec.get("formatting"), context)
    digest = tokenizer_sha256(tokenizer) if tokenizer else None
    write_rows(out, rows, TEXT_SCHEMA, spec=spec, tokenizer_sha256=digest)
