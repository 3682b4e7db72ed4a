"""Where a model's turns end: the one definition for generating, scoring, training and export."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill.core.errors import UserError
from distill.models.formatting import MARK, control_tokens, encode_plain, render
from distill.models.tokenizers import check_held, facts_of, special_ids


@dataclass(frozen=True)
class Turns:
    """The tokens that end a turn."""

    stops: tuple[int, ...]
    """Ids that end a response, ascending: EOS, those of the model's generation config, and the
    control tokens that the chat template puts behind a text. A response includes its end."""
    end: int
    """The id that ends an answer which a data set gives: the template's where prompts are chats,
    else EOS."""
    spelled: tuple[str, ...]
    """How the special tokens among the stops are spelled."""
    controls: re.Pattern[str]
    """`control_tokens` of the tokenizer."""

    def body(self, ids: Sequence[int]) -> list[int]:
        """A response without its end."""
        return list(ids[:-1] if ids and ids[-1] in self.stops else ids)


def turns_of(tokenizer: Any, template: str = "chat") -> Turns:
    """Where the turns of a model end.

    Args:
        tokenizer: The model's, from `load_tokenizer`.
        template: prompts.template of the study.

    Raises:
        UserError: Nothing ends a turn.
    """
    turns = find_turns(tokenizer, template)
    if turns is None:
        raise UserError(
            f"the model {tokenizer.name_or_path} has no token that ends an answer; set eos_token "
            "in its tokenizer_config.json, or eos_token_id in its generation_config.json"
        )
    return turns


def find_turns(tokenizer: Any, template: str = "chat") -> Turns | None:
    """As `turns_of`; None if nothing ends a turn, as of masked models."""
    behind = _behind(tokenizer) if tokenizer.chat_template else {}
    named = [tokenizer.eos_token_id, *facts_of(tokenizer).stops]
    stops = {one for one in [*named, *behind.values()] if one is not None}
    if not stops:
        return None
    chat = behind.get("answer") if template == "chat" else None
    end = next(one for one in (chat, *named, *sorted(stops)) if one is not None)
    special = [one for one in sorted(stops) if one in special_ids(tokenizer)]
    spelled = tuple(tokenizer.convert_ids_to_tokens(special))
    return Turns(tuple(sorted(stops)), end, spelled, control_tokens(tokenizer))


def _behind(tokenizer: Any) -> dict[str, int]:
    """Control tokens that the chat template puts behind a text, by where the text is.

    Behind the last answer it is the end of a turn. Behind a text that is not the last one it may
    also be the head of the next turn, where a template has no end.
    """
    user, answer = ({"role": role, "content": "a"} for role in ("user", "assistant"))
    asked, answered = user | {"content": MARK}, answer | {"content": MARK}
    chats = {
        "answer": [user, answered],
        "prompt": [asked],
        "answered prompt": [asked, answer],
        "earlier answer": [user, answered, user],
    }
    found = {name: _control_behind(tokenizer, chat, name) for name, chat in chats.items()}
    return {name: token for name, token in found.items() if token is not None}


def _control_behind(tokenizer: Any, chat: list[dict[str, str]], place: str) -> int | None:
    """The control token that a template puts next behind the marked text; None without one.

    Behind the last answer any added token is one, even if it is not flagged as special.
    """
    try:
        text = render(tokenizer, chat, tokenize=False)
    except UserError:  # not every template takes every chat; encoding a prompt reports its faults
        return None
    rest = text.partition(MARK)[2].lstrip()
    ids = tokenizer(rest, add_special_tokens=False).input_ids if rest else []
    if not ids:
        return None
    if ids[0] in special_ids(tokenizer):
        return int(ids[0])
    added = tokenizer.added_tokens_decoder.get(ids[0])
    return int(ids[0]) if place == "answer" and added and not added.content.isspace() else None


def controls_inside(rows: Iterable[Mapping[str, Any]], tokenizer: Any) -> dict[str, str]:
    """Control tokens inside a model's answers, behind which it goes on: text by id.

    Args:
        rows: Of text, with response_ids.
        tokenizer: The model's.
    """
    used = {one for row in rows for one in row["response_ids"][:-1]}
    return {
        str(one): tokenizer.convert_ids_to_tokens(one)
        for one in sorted(used & special_ids(tokenizer))
    }


def answer_ids(
    tokenizer: Any, text: str, turns: Turns, finished: bool = True
) -> tuple[list[int], str]:
    """Token ids of an answer that a data set or another model gives, and its text.

    The text may already end in the text of an end token (data sets for another trainer do): there
    is one end. Other control tokens in it are text.

    Args:
        tokenizer: The model's.
        text: The answer.
        turns: Of the tokenizer.
        finished: Whether the answer ended; else it has no end token.

    Raises:
        UserError: A token is beyond the model's embeddings.
    """
    while found := next((end for end in turns.spelled if text.rstrip().endswith(end)), None):
        text = text.rstrip().removesuffix(found)
    ids = encode_plain(tokenizer, text, turns.controls)
    ids = [*ids, turns.end] if finished else ids
    check_held(tokenizer, ids, f"the answer {text[:60]!r}")
    return ids, text
