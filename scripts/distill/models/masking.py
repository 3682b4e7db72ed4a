"""Masked chunks: which tokens a model has to find, and what it sees in their place (BERT, Devlin
2019).

All is drawn from a hash of the row's name and a seed, never from the order of training: a row has
one mask, in every epoch, for every student and for the teacher. That is what lets a cache hold the
teacher's distributions at masked positions; students that learn without a teacher get the same
masks, so that methods are compared on equal terms. (BERT's own data repeated ten masks per text;
RoBERTa, Liu 2019, draws new ones each time, which no cache can follow.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.core.errors import UserError
from distill.core.keys import chosen
from distill.core.noise import row_uniforms
from distill.models.rows import Example


@dataclass(frozen=True)
class Special:
    """Special ids of a masked model's tokenizer, and which ids are ordinary words, bool [ids]."""

    first: int
    last: int
    mask: int
    ordinary: np.ndarray

    @classmethod
    def of(cls, tokenizer: Any, name: str) -> "Special":
        """Read them off a tokenizer.

        Args:
            tokenizer: The study's.
            name: What it is called in a message.

        Raises:
            UserError: It lacks the mask token, or those put around a text.
        """
        ids = {key: getattr(tokenizer, f"{key}_token_id") for key in ("cls", "sep", "mask")}
        if lacking := [key for key, value in ids.items() if value is None]:
            raise UserError(
                f"task masked-lm needs a tokenizer with mask, cls and sep tokens; that of {name} "
                f"has no {' and no '.join(lacking)} token; name a masked model such as BERT under "
                "corpus.tokenizer, or set task: causal-lm"
            )
        ordinary = np.ones(len(tokenizer), dtype=bool)
        ordinary[tokenizer.all_special_ids] = False
        return cls(ids["cls"], ids["sep"], ids["mask"], ordinary)


def mask_chunk(
    name: str, chunk: Sequence[int], special: Special, mask: Mapping[str, Any]
) -> Example:
    """A chunk between its first and last token, with the tokens to be found.

    Args:
        name: The row's, from which all is drawn.
        chunk: Its tokens.
        special: Of the tokenizer.
        mask: share, hidden, random and seed.

    Returns:
        What the model sees as `prompt`, the true tokens to be found as `answer`, and where they
        stand in the prompt. Tokens that end a document are never chosen.
    """
    true, length = np.asarray(chunk), len(chunk)
    noise = row_uniforms(name, mask["seed"], 3 * length).reshape(3, length)
    eligible = special.ordinary[true]
    order = np.argsort(np.where(eligible, noise[0], 2.0), kind="stable")
    at = np.sort(order[: min(chosen(length, mask["share"]), int(eligible.sum()))])
    words = np.flatnonzero(special.ordinary)
    random = words[(noise[2][at] * len(words)).astype(int)]
    seen = true.copy()
    hidden, kind = mask["hidden"], noise[1][at]
    seen[at] = np.where(
        kind < hidden, special.mask, np.where(kind < hidden + mask["random"], random, true[at])
    )
    return Example(
        [special.first, *seen.tolist(), special.last], true[at].tolist(), (at + 1).tolist()
    )


def true_ids(example: Example) -> list[int]:
    """The tokens of a masked example as they are, first and last one included."""
    ids = list(example.prompt)
    for place, token in zip(example.positions or (), example.answer, strict=True):
        ids[place] = token
    return ids
