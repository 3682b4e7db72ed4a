"""A server's answers as a teacher's text, and their log-probabilities as soft targets."""

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from distill.contracts.costs import FREE, cost_of, unmetered
from distill.core.errors import UserError
from distill.models.formatting import encoder, turn_end
from distill.targets.encoding import quantised
from distill.targets.format import id_type, scheme_of


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
    found = {answer["id"]: answer for answer in answers}
    encode = encoder(tokenizer, **spec["formatting"]) if tokenizer is not None else None
    rows: list[dict[str, Any]] = []
    cut = 0
    for row in prompts:
        answer = found[row["id"]]
        tokens = answer["prompt_tokens"] + answer["tokens"]
        served = unmetered(2 * (spec["params"] or 0.0) * tokens, answer["seconds"])
        rows.append(
            {
                "id": row["id"], "row": row["row"], "prompt": row["prompt"],
                "context": row["context"], "response": answer["response"],
                "reference": row["reference"], "prompt_ids": None, "response_ids": None,
                "finish_reason": answer["finish_reason"],
                **(cost_of(row, "prompt_") + served).columns("teacher_"),
            }
        )  # fmt: skip
        if encode is not None:
            ids = encode(row["prompt"], row["context"])
            if len(ids) != answer["prompt_tokens"]:
                raise UserError(
                    f"{name}: the server counts {answer['prompt_tokens']} tokens in the prompt "
                    f"{row['id']} but the tokenizer named makes {len(ids)}: another tokenizer, "
                    "chat template or system prompt; name the served model's own, or none"
                )
            rows[-1] |= {"prompt_ids": ids, **_own_tokens(answer, tokenizer, name)}
            cut += len(rows[-1]["response_ids"]) < len(answer["ids"] or [])
    if cut:
        logging.warning("%s: %d answers are cut at a token that the server leaves out", name, cut)
    return rows


def _own_tokens(answer: dict[str, Any], tokenizer: Any, name: str) -> dict[str, Any]:
    """Response, token ids with the one that ended it, and finish_reason of an answer."""
    text, finished = answer["response"], answer["finish_reason"] == "stop"
    if answer["ids"] is None:
        own = tokenizer(text, add_special_tokens=False).input_ids
        ids = [*own, tokenizer.eos_token_id] if finished else own
        return {"response_ids": ids}
    ids = list(answer["ids"])
    if max(ids, default=0) >= len(tokenizer):
        raise _other_words(answer, name)
    if len(ids) < answer["tokens"]:
        return _until_lost(ids, text, tokenizer)
    if finished and (not ids or ids[-1] not in _ends(tokenizer)):
        raise UserError(
            f"{name}: the answer {answer['id']} ended, but the server gives no log-probability of "
            "the token that ended it; set server.top_logprobs to 0 and learn from the text alone"
        )
    read = tokenizer.decode(ids[:-1] if finished else ids, skip_special_tokens=True)
    # What stands for a letter that was begun and not ended differs.
    if "\ufffd" not in text + read and read.strip() != text.strip():
        raise _other_words(answer, name)
    return {"response_ids": ids}


def _until_lost(ids: list[int], text: str, tokenizer: Any) -> dict[str, Any]:
    """An answer up to the first token that the server leaves out.

    llama.cpp leaves out tokens that begin a letter and do not end it (as of an emoji). What stands
    before is exact; the answer counts as cut short.
    """
    kept = 0
    for end in range(1, len(ids) + 1):
        read = tokenizer.decode(ids[:end], skip_special_tokens=True)
        if ids[end - 1] in _ends(tokenizer) or not text.strip().startswith(read.strip()):
            break
        kept = end
    read = tokenizer.decode(ids[:kept], skip_special_tokens=True)
    return {"response_ids": ids[:kept], "response": read, "finish_reason": "length"}


def _ends(tokenizer: Any) -> set[int]:
    """Tokens that may end an answer: a server may know more of them than the tokenizer does."""
    added = tokenizer.added_tokens_decoder.items()
    return {*turn_end(tokenizer), *(number for number, token in added if token.special)}


def _other_words(answer: dict[str, Any], name: str) -> UserError:
    return UserError(
        f"{name}: in the tokenizer named, the token ids of the answer {answer['id']} are not its "
        "text; name the served model's own (server.tokenizer)"
    )


def served_targets(
    text: Sequence[dict[str, Any]],
    answers: Sequence[dict[str, Any]],
    spec: dict[str, Any],
    vocabulary: int,
) -> list[dict[str, Any]]:
    """Soft targets of a part, from the log-probabilities that came with its answers.

    Args:
        text: The part's text.
        answers: Rows of `ANSWERS_SCHEMA` of the same part.
        spec: The cache: top_k or top_k_tail with its settings.
        vocabulary: Words of the tokenizer.

    Returns:
        Rows of `target_schema`, at no cost of their own. The entropy of q is not known: NaN.

    Raises:
        UserError: The server gave too few tokens, or one that the tokenizer does not have.
    """
    scheme, found = scheme_of(spec), {answer["id"]: answer for answer in answers}
    kept = min(scheme.k, vocabulary)
    rows = []
    for row in text:
        answer, tokens = found[row["id"]], len(row["response_ids"])
        names, values = answer["top_ids"][:tokens], answer["top_log_p"][:tokens]
        _check_likeliest(row["id"], names, kept, vocabulary)
        shape = (tokens, kept)
        ids = np.array([own[:kept] for own in names], np.int64).reshape(shape)
        logs = np.array([own[:kept] for own in values], np.float32).reshape(shape)
        tail = np.maximum(0, 1 - np.exp(logs, dtype=float).sum(1))
        rows.append(
            {
                "id": row["id"],
                "tokens": tokens,
                "ids": ids.astype(id_type(vocabulary)).tobytes(),
                "log_p": quantised(np.minimum(logs, 0), scheme).tobytes(),
                "tail_mass": tail.astype("<f2").tobytes(),
                "entropy": np.full((tokens, 1), math.nan, "<f2").tobytes(),
                **FREE.columns(),
            }
        )
    return rows


def _check_likeliest(row: str, top_ids: Sequence[Sequence[int]], kept: int, words: int) -> None:
    """Check that each position of a row has as many of its likeliest tokens as are kept."""
    for ids in top_ids:
        if len(ids) < kept:
            raise UserError(
                f"{row}: the server gave {len(ids)} of the {kept} likeliest tokens that the cache "
                "keeps; lower its k"
            )
        if max(ids[:kept]) >= words:
            raise UserError(
                f"{row}: the server names token {max(ids[:kept])} but the tokenizer named has only "
                f"{words} tokens; name the served model's own (server.tokenizer)"
            )
