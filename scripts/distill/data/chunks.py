"""Chunk text that no teacher wrote: documents as one stream of tokens, cut evenly.

The corpus of a whole study and the corpora of single methods differ in which documents they take
and in what order; both are cut here, and a chunk becomes a row of text like a teacher's
answer: its prompt is the token before it, its answer the whole chunk, its teacher cost 0.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from distill.contracts.costs import FREE
from distill.models.formatting import control_tokens, encode_plain

_AT_ONCE = 1000
"""Documents tokenised in one call."""


def document_end(tokenizer: Any) -> int:
    """The token that ends a document in the stream: EOS, or a masked model's separator."""
    end = tokenizer.eos_token_id
    return int(tokenizer.sep_token_id if end is None else end)


def tokenised(tokenizer: Any, documents: Sequence[str]) -> Iterator[list[int]]:
    """Tokens of each document, its end included; control tokens that it spells are text."""
    end, controls = document_end(tokenizer), control_tokens(tokenizer)
    for first in range(0, len(documents), _AT_ONCE):
        batch = list(documents[first : first + _AT_ONCE])
        tokens = tokenizer(batch, add_special_tokens=False, verbose=False).input_ids
        for text, ids in zip(batch, tokens, strict=True):
            spelled = controls.search(text)
            yield [*(encode_plain(tokenizer, text, controls) if spelled else ids), end]


def chunks(documents: Iterable[Sequence[int]], tokens: int) -> Iterator[list[int]]:
    """Cut the stream of documents into chunks of `tokens` tokens; the remainder is dropped."""
    rest: list[int] = []
    for document in documents:
        rest += document
        complete = len(rest) // tokens * tokens
        for start in range(0, complete, tokens):
            yield rest[start : start + tokens]
        rest = rest[complete:]


def chunk_row(name: str, row: int | None, ids: list[int], tokenizer: Any) -> dict[str, Any]:
    """A chunk as a row of text.

    Args:
        name: Its id.
        row: Its row of the pool, if it is one.
        ids: Its tokens.
        tokenizer: Of those tokens. The token before a chunk is its BOS, or the end of a document
            where it has no BOS.
    """
    end = document_end(tokenizer)
    return {
        "id": name,
        "row": row,
        "prompt": "",
        "context": None,
        "response": tokenizer.decode(ids, skip_special_tokens=True),
        "reference": None,
        "system": None,
        "turns": None,
        "prompt_ids": [end if tokenizer.bos_token_id is None else tokenizer.bos_token_id],
        "response_ids": ids,
        "finish_reason": "stop" if ids[-1] == end else "length",
        **FREE.columns("teacher_"),
    }
