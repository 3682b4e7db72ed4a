"""Whether a model reads the token ids of a text, so that the two share tokens.

Models of one family differ in EOS, added tokens, chat template and padding of their embeddings, and
yet have the same ids for the same bytes. A student of such a family takes the text's tokenizer: its
prompt ids, chat template and ends of turn. A digest of the whole tokenizer would refuse it.
"""

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.core.checksums import tokenizer_sha256
from distill.core.errors import UserError
from distill.models.formatting import MARK, messages_of, render
from distill.models.tokenizers import ModelFacts, facts_of, for_model, load_tokenizer, special_ids
from distill.models.turns import find_turns

_UNUSED = re.compile(r"unused|reserved|placeholder|dummy|extra_id", re.IGNORECASE)
"""Names of ids that a family keeps free for later control tokens."""


def decoder_kinds(tokenizer: Any) -> set[str]:
    """Kinds of the steps of a tokenizer's decoder; none of a tokenizer in Python."""

    def kinds(state: Mapping[str, Any] | None) -> set[str]:
        if state is None:
            return set()
        return {state["type"]}.union(*(kinds(step) for step in state.get("decoders", ())))

    backend = getattr(tokenizer, "backend_tokenizer", None)
    return kinds(json.loads(backend.to_str())["decoder"]) if backend is not None else set()


def _spelling(tokenizer: Any) -> str:
    """How a vocabulary spells bytes: tokenizers that spell alike have equal bytes by equal text."""
    kinds = decoder_kinds(tokenizer)
    if "ByteLevel" in kinds:
        return "bytes"
    if kinds & {"ByteFallback", "Metaspace"}:
        return "pieces"
    return " ".join(sorted(kinds)) or type(tokenizer).__name__


def difference(
    text: Any, model: Any, used: Iterable[int] = (), free_rows: bool = False
) -> str | None:
    """Why a model does not read the ids of a text; None if they share tokens.

    They share tokens if each id that the text may hold decodes to the same bytes in both. Added
    special tokens count where every prompt has them (in the chat template and at the ends of
    turns), and where they are used.

    Args:
        text: The text's tokenizer.
        model: The model's, from `load_tokenizer`.
        used: Ids that occur in the text, if they are known.
        free_rows: Whether the model may learn a token at a row of its embeddings that has none.
    """
    if tokenizer_sha256(text) == tokenizer_sha256(model):
        return None
    if _spelling(text) != _spelling(model):
        return "their vocabularies spell bytes differently"
    rows, known = facts_of(model).rows, facts_of(text).rows
    special, needed = special_ids(text), {*_in_every_prompt(text), *used}
    own = {number: token for token, number in model.get_vocab().items()}
    for token, number in sorted(text.get_vocab().items(), key=lambda pair: pair[1]):
        if number in special and number not in needed:
            continue
        if known is not None and number >= known and number not in needed:
            continue
        mine = own.get(number)
        if rows is not None and number >= rows:
            return (
                f"its embeddings hold {rows} ids but the text has {token!r}, id {number}; "
                "resize_token_embeddings makes room"
            )
        if mine is None and (rows is None or not free_rows):
            return f"it has no id {number}, which is {token!r} in the text"
        if mine is None or mine == token:
            continue
        if not (free_rows and number in special and _UNUSED.search(mine)):
            return f"id {number} is {mine!r} in it but {token!r} in the text"
    return None


def _in_every_prompt(tokenizer: Any) -> set[int]:
    """Control tokens of a tokenizer's chat template, and its ends of turn."""
    turns = find_turns(tokenizer)
    ids = set(turns.stops) if turns else set()
    if tokenizer.bos_token_id is not None:
        ids.add(tokenizer.bos_token_id)
    if tokenizer.chat_template:
        messages = messages_of(MARK, None, None)
        with suppress(UserError):  # a template that refuses this is not used, or reported later
            text = render(tokenizer, messages, add_generation_prompt=True, tokenize=False)
            ids |= set(tokenizer(text, add_special_tokens=False).input_ids) & special_ids(tokenizer)
    return ids


@dataclass(frozen=True)
class Reader:
    """The tokenizer with which a model reads a text."""

    tokenizer: Any
    """The text's where they share tokens, else the model's own."""
    own_sha256: str
    """Digest of the model's own tokenizer."""
    apart: str | None = None
    """Why they do not share tokens."""

    @classmethod
    def of(cls, model: str | Path, text: str | Path | None, template: str = "") -> "Reader":
        """Open the tokenizers.

        Args:
            model: The model's folder.
            text: Folder with the text's tokenizer; None if it is the model's own, or the text has
                no tokens.
            template: prompts.template of the study, if the model is to read prompts.

        Raises:
            UserError: The model has no chat template and does not share tokens with a text of
                chats; or see `load_tokenizer`.
        """
        own = load_tokenizer(model)
        digest = tokenizer_sha256(own)
        if text is None:
            return cls(own, digest)
        theirs = load_tokenizer(text)
        if apart := difference(theirs, own, free_rows=True):
            if template == "chat" and not own.chat_template:
                raise UserError(
                    f"the student's tokenizer has no chat template and is not the teacher's "
                    f"({apart}), so it cannot take the teacher's; name a student that shares the "
                    "teacher's tokens, or set prompts.template to alpaca or to a text with {prompt}"
                )
            return cls(own, digest, apart)
        facts = ModelFacts(facts_of(own).rows, facts_of(theirs).stops)
        return cls(for_model(theirs, facts), digest)
