"""What a tokenizer's files say of its control tokens, without the library that opens them.

Only what is certain is reported; the rest is left to the job that opens the tokenizer.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.core.chat_templates import RefusedError, rendered
from distill.core.model_files import chat_template, read_object

_ADDED = '"added_tokens":'
_USER, _ANSWER = ({"role": role, "content": "a"} for role in ("user", "assistant"))
_MARK = "\u2603"
"""Stands for a text behind which a control token is looked for."""
_NO_DEFAULTS = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Tokenizer classes that have no special tokens by default."""
_OWN_CLASS = ("qwen", "hyperclovax")
"""Beginnings of architectures whose tokenizer class the library chooses, whatever the files say."""


def added_tokens(folder: Path, plain: bool = False) -> dict[str, int]:
    """Id of each added token of a fast tokenizer, by its text; empty if unknown.

    Args:
        folder: Folder of the model.
        plain: Whether to return only tokens that are found in any text: neither special ones, which
            are text there, nor those that must be single words.
    """
    try:
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        # The list comes first; the vocabulary behind it, of up to 30 MB, is not parsed.
        place = text.index("[", text.index(_ADDED))
        entries, _ = json.JSONDecoder().raw_decode(text, place)
        return {
            str(entry["content"]): int(entry["id"])
            for entry in entries
            if not plain or not (entry["special"] or entry["single_word"])
        }
    except (OSError, ValueError, LookupError, TypeError):  # opening the tokenizer reports faults
        return {}


def special_token(folder: Path, name: str) -> str | None:
    """The text of a special token, such as eos_token, that a tokenizer's files name."""
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        stated = read_object(folder / file).get(name)
        text = stated.get("content") if isinstance(stated, dict) else stated
        if isinstance(text, str) and text:
            return text
    return None


def tokens_beyond(folder: Path, rows: int, formatting: Mapping[str, Any]) -> list[str]:
    """Added tokens that every prompt of a study has, but that a model's embeddings lack.

    Args:
        folder: Folder of the model.
        rows: Ids that its embeddings hold.
        formatting: template, system and settings of the prompts.
    """
    beyond = [token for token, number in added_tokens(folder).items() if number >= rows]
    text: str | None = formatting["template"]
    if beyond and text == "chat":
        text = _rendered(folder, [_USER], formatting)
    return [token for token in beyond if token in (text or "")]


def plain_tokens_beyond(folder: Path, rows: int) -> list[str]:
    """Added tokens found in any text that spells them, but that a model's embeddings lack.

    Args:
        folder: Folder of the model.
        rows: Ids that its embeddings hold.
    """
    return [token for token, number in added_tokens(folder, plain=True).items() if number >= rows]


def ends_no_turn(folder: Path, config: Mapping[str, Any], formatting: Mapping[str, Any]) -> bool:
    """Whether a model surely has no token that ends an answer.

    Args:
        folder: Folder of the model.
        config: Its config.json.
        formatting: template, system and settings of the prompts.
    """
    kind = str(config.get("model_type"))
    stated = read_object(folder / "tokenizer_config.json")
    if stated.get("tokenizer_class") not in _NO_DEFAULTS or kind.startswith(_OWN_CLASS):
        return False
    text_part = config.get("text_config")
    generation = read_object(folder / "generation_config.json")
    places = (generation, config, text_part if isinstance(text_part, dict) else {})
    named = any(place.get("eos_token_id") is not None for place in places)
    tokens = added_tokens(folder)
    if not tokens or named or special_token(folder, "eos_token"):
        return False
    asked, answered = _USER | {"content": _MARK}, _ANSWER | {"content": _MARK}
    chats = [[_USER, answered], [asked], [asked, _ANSWER], [_USER, answered, _USER]]
    texts = [_rendered(folder, chat, formatting) for chat in chats]
    behind = [text.partition(_MARK)[2].lstrip() for text in texts if text]
    return not any(text.startswith(tuple(tokens)) for text in behind)


def _rendered(
    folder: Path, turns: Sequence[Mapping[str, str]], formatting: Mapping[str, Any]
) -> str | None:
    """A chat in the template of a model; None without one, or if it does not take the chat."""
    template, system = chat_template(folder), formatting["system"]
    before = [] if system is None else [{"role": "system", "content": system}]
    names = {name: special_token(folder, name) or "" for name in ("bos_token", "eos_token")}
    try:
        settings = formatting.get("settings", {})
        return rendered(template, [*before, *turns], **names, **settings) if template else None
    except RefusedError:
        return None
