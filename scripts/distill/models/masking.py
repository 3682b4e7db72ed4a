"""Masked chunks: which tokens a model predicts, and which tokens replace them (BERT, Devlin 2019).

A hash of the row's name and a seed decides the mask, so a row has the same mask in every epoch, for
all students and the teacher. Hence a cache can store the teacher's distributions at masked
positions, and methods without a teacher use the same masks. (BERT's data have ten masks per text;
RoBERTa, Liu 2019, draws new masks each time, which a cache cannot store.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.core.errors import UserError
from distill.core.keys import chosen
from distill.core.noise import row_uniforms
from distill.models.rows import Example
from distill.models.token_ids import full_width, ids_without_token


@dataclass(frozen=True)
class Special:
    """Special ids of a masked model's tokenizer, and which ids are ordinary tokens, bool [ids]."""

    first: int
    last: int
    mask: int
    ordinary: np.ndarray

    @classmethod
    def of(cls, tokenizer: Any, name: str) -> "Special":
        """Read them from a tokenizer.

        Args:
            tokenizer: The study's tokenizer.
            name: Its name in errors.

        Raises:
            UserError: It has no mask, cls or sep token.
        """
        ids = {key: getattr(tokenizer, f"{key}_token_id") for key in ("cls", "sep", "mask")}
        if lacking := [key for key, value in ids.items() if value is None]:
            raise UserError(
                f"task masked-lm needs a tokenizer with mask, cls and sep tokens; that of {name} "
                f"has no {' and no '.join(lacking)} token; name a masked model such as BERT under "
                "corpus.tokenizer, or set task: causal-lm"
            )
        width = full_width(tokenizer)
        ordinary = np.ones(width, dtype=bool)
        ordinary[ids_without_token(tokenizer, width)] = False
        ordinary[tokenizer.all_special_ids] = False
        return cls(ids["cls"], ids["sep"], ids["mask"], ordinary)


def mask_chunk(
    name: str, chunk: Sequence[int], special: Special, mask: Mapping[str, Any]
) -> Example:
    """Mask a chunk and put the first and last special token around it.

    Args:
        name: Name of the row, which with the seed decides the mask.
        chunk: Tokens of the chunk.
        special: Special ids of the tokenizer.
        mask: share, hidden, random and seed.

    Returns:
        The model's input as `prompt`, the true tokens as `answer`, and their positions in the
        prompt. Tokens that end a document are never masked.
    """
    true, length = np.asarray(chunk), len(chunk)
    noise = row_uniforms(name, mask["seed"], 3 * length).reshape(3, length)
    eligible = special.ordinary[true]
    order = np.argsort(np.where(eligible, noise[0], 2.0), kind="stable")
    at = np.sort(order[: min(chosen(length, mask["share"]), int(eligible.sum()))])
    ordinary = np.flatnonzero(special.ordinary)
    random = ordinary[(noise[2][at] * len(ordinary)).astype(int)]
    seen = true.copy()
    hidden, kind = mask["hidden"], noise[1][at]
    seen[at] = np.where(
        kind < hidden, special.mask, np.where(kind < hidden + mask["random"], random, true[at])
    )
    return Example(
        [special.first, *seen.tolist(), special.last], true[at].tolist(), (at + 1).tolist()
    )


def true_ids(example: Example) -> list[int]:
    """The original tokens of a masked example, including the first and last special token."""
    ids = list(example.prompt)
    for place, token in zip(example.positions or (), example.answer, strict=True):
        ids[place] = token
    return ids
