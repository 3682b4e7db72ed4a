"""Soft targets from the log-probabilities that came with a server's answers."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill.contracts.costs import FREE
from distill.core.errors import UserError
from distill.core.parquet import read_rows, write_rows
from distill.models.token_ids import full_width
from distill.models.tokenizers import load_tokenizer
from distill.targets.encoding import quantised
from distill.targets.format import id_type, scheme_of, target_schema


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
        Rows of `target_schema`, at no extra cost. The entropy of q is not known: NaN.

    Raises:
        UserError: The server gave too few tokens, or one that the tokenizer does not have.
    """
    scheme, answer_of = scheme_of(spec), {answer["id"]: answer for answer in answers}
    k = min(scheme.k, vocabulary)
    rows = []
    for row in text:
        answer, tokens = answer_of[row["id"]], len(row["response_ids"])
        names, values = answer["top_ids"][:tokens], answer["top_log_p"][:tokens]
        _check_likeliest(row["id"], names, k, vocabulary)
        shape = (tokens, k)
        ids = np.array([position[:k] for position in names], np.int64).reshape(shape)
        logs = np.array([position[:k] for position in values], np.float32).reshape(shape)
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


def _check_likeliest(row: str, top_ids: Sequence[Sequence[int]], k: int, vocabulary: int) -> None:
    """Check that each position of a row has its k most likely tokens."""
    for ids in top_ids:
        if len(ids) < k:
            raise UserError(
                f"{row}: the server gave {len(ids)} of the {k} most likely tokens that the cache "
                "keeps; lower its k"
            )
        if max(ids[:k]) >= vocabulary:
            raise UserError(
                f"{row}: the server names token {max(ids[:k])} but the configured tokenizer has "
                f"only {vocabulary} tokens; name the served model's tokenizer (server.tokenizer)"
            )


def take_log_probs(
    text: str | Path, answers: str | Path, model: str | Path, out: str | Path, spec: dict[str, Any]
) -> None:
    """Take one part of a cache from a server's log-probabilities; see `served_targets`.

    Args:
        text: The part of the text.
        answers: The server's answers that it was taken from.
        model: A file in the directory that has the served model's tokenizer.
        out: The part of the cache, rows of `target_schema`.
        spec: Of the cache; stored in the part.
    """
    vocabulary = full_width(load_tokenizer(Path(model).parent))
    rows = served_targets(read_rows(text), read_rows(answers), spec, vocabulary)
    write_rows(out, rows, target_schema(scheme_of(spec)), spec=spec, vocabulary=vocabulary)
