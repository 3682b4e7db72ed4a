"""A server's answers as a teacher's text."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.contracts.costs import cost_of, unmetered
from distill.contracts.schemas import TEXT_SCHEMA
from distill.core.checksums import tokenizer_sha256
from distill.core.errors import UserError
from distill.core.parquet import read_rows, write_rows
from distill.models.formatting import asked, encoder
from distill.models.responses import Responses
from distill.models.token_ids import full_width
from distill.models.tokenizers import load_tokenizer, special_ids
from distill.models.turns import answer_ids


def served_text(
    prompts: Sequence[dict[str, Any]],
    answers: Sequence[dict[str, Any]],
    spec: dict[str, Any],
    name: str,
    tokenizer: Any = None,
) -> list[dict[str, Any]]:
    """Text rows of a part.

    Args:
        prompts: Rows of a kept prompt part.
        answers: Rows of `ANSWERS_SCHEMA` of the same part.
        spec: formatting, and params (which count 2 FLOPs per token each; None counts none).
        name: The teacher's name, for errors.
        tokenizer: Of the served model, if it is known; without it rows have no token ids. Ids are
            those that were drawn, where the server names them, else the text's.

    Raises:
        UserError: The tokenizer is not the served model's.
    """
    answer_of = {answer["id"]: answer for answer in answers}
    encode = responses = None
    if tokenizer is not None:
        encode = encoder(tokenizer, **spec["formatting"])
        template, decoding = spec["formatting"]["template"], spec.get("decoding", {})
        responses = Responses(tokenizer, template, {"stop": decoding.get("stop", ())})
    rows: list[dict[str, Any]] = []
    cut = 0
    for row in prompts:
        answer = answer_of[row["id"]]
        tokens = answer["prompt_tokens"] + answer["tokens"]
        served = unmetered(2 * (spec["params"] or 0.0) * tokens, answer["seconds"])
        rows.append(
            {
                "id": row["id"],
                "row": row["row"],
                "prompt": row["prompt"],
                "context": row["context"],
                "response": answer["response"],
                "reference": row["reference"],
                "system": row.get("system"),
                "turns": row.get("turns"),
                "prompt_ids": None,
                "response_ids": None,
                "finish_reason": answer["finish_reason"],
                **(cost_of(row, "prompt_") + served).columns("teacher_"),
            }
        )
        if encode is not None and responses is not None:
            ids = encode(*asked(row))
            if len(ids) != answer["prompt_tokens"]:
                if responses.turns.controls.search(f"{row['prompt']}\n{row['context'] or ''}"):
                    raise UserError(
                        f"{name}: the prompt {row['id']} spells a control token of the served "
                        "model, which the server does not read as text; remove that row"
                    )
                raise UserError(
                    f"{name}: the server counts {answer['prompt_tokens']} tokens in the prompt "
                    f"{row['id']} but the configured tokenizer gives {len(ids)}: another "
                    "tokenizer, chat template or system prompt; name the served model's "
                    "tokenizer, or none"
                )
            rows[-1] |= {"prompt_ids": ids, **_own_tokens(answer, responses, name)}
            cut += len(rows[-1]["response_ids"]) < len(answer["ids"] or [])
    if cut:
        logging.warning("%s: %d answers are cut at a token that the server leaves out", name, cut)
    return rows


def _own_tokens(answer: dict[str, Any], responses: Responses, name: str) -> dict[str, Any]:
    """Response, token ids with the one that ended it, and finish_reason of an answer."""
    text, finished = answer["response"], answer["finish_reason"] == "stop"
    tokenizer, turns = responses.tokenizer, responses.turns
    if answer["ids"] is None:
        return {"response_ids": answer_ids(tokenizer, text, turns, finished)[0]}
    ids = list(answer["ids"])
    if max(ids, default=0) >= full_width(tokenizer):
        raise _other_words(answer, name)
    # A server may know more ends than the model's files do.
    ends = {*turns.stops, *special_ids(tokenizer)}
    if len(ids) < answer["tokens"]:
        return _until_lost(ids, text, tokenizer, ends)
    by_text = bool(responses.stops) and responses.stops.reached(ids)
    if finished and not by_text and (not ids or ids[-1] not in ends):
        raise UserError(
            f"{name}: the answer {answer['id']} ended, but the server gives no log-probability of "
            "the token that ended it; set server.top_logprobs to 0 and learn from the text alone"
        )
    ended = finished and ids[-1] in ends
    read = tokenizer.decode(ids[:-1] if ended else ids, skip_special_tokens=True)
    read = responses.stops.cut(read)
    if answer.get("thinking") is not None:  # the server splits it off, and its white space
        return {"response_ids": ids, "response": read}
    # Replacement characters of incomplete letters may differ.
    if "\ufffd" not in text + read and read.strip() != text.strip():
        raise _other_words(answer, name)
    return {"response_ids": ids}


def _until_lost(ids: list[int], text: str, tokenizer: Any, ends: set[int]) -> dict[str, Any]:
    """An answer up to the first token that the server leaves out.

    llama.cpp leaves out tokens that begin a letter without ending it (as in an emoji). The tokens
    before are exact; the answer counts as cut short.
    """
    exact = 0
    for end in range(1, len(ids) + 1):
        read = tokenizer.decode(ids[:end], skip_special_tokens=True)
        if ids[end - 1] in ends or not text.strip().startswith(read.strip()):
            break
        exact = end
    read = tokenizer.decode(ids[:exact], skip_special_tokens=True)
    return {"response_ids": ids[:exact], "response": read, "finish_reason": "length"}


def _other_words(answer: dict[str, Any], name: str) -> UserError:
    return UserError(
        f"{name}: in the configured tokenizer, the token ids of the answer {answer['id']} are "
        "not its text; name the served model's tokenizer (server.tokenizer)"
    )


def take_answers(
    prompts: str | Path,
    answers: str | Path,
    model: str | Path | None,
    out: str | Path,
    spec: dict[str, Any],
    teacher: str,
) -> None:
    """Take a server's answers to one part of the prompts as text; see `served_text`.

    Args:
        prompts: The part of the prompts.
        answers: The server's answers to it.
        model: A file in the directory that has the served model's tokenizer; None if unknown.
        out: The text, rows of `TEXT_SCHEMA`.
        spec: As of `served_text`; stored in the text.
        teacher: The teacher's name, for errors.
    """
    tokenizer = load_tokenizer(Path(model).parent) if model else None
    rows = served_text(read_rows(prompts), read_rows(answers), spec, teacher, tokenizer)
    digest = tokenizer_sha256(tokenizer) if tokenizer else None
    write_rows(out, rows, TEXT_SCHEMA, spec=spec, tokenizer_sha256=digest)
