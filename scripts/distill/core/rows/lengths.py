"""The length of a prompt in tokens, estimated without a tokenizer, in any language.

Planning counts rows before any model is fetched, and several models with different tokenizers may
read one prompt, so the limit on prompts cannot count the tokens of one of them.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

_UNSPACED = (
    "\u0e00-\u109f"  # Thai, Lao, Tibetan, Burmese
    "\u1100-\u11ff"  # Hangul letters
    "\u1780-\u17ff"  # Khmer
    "\u2e80-\u9fff"  # Chinese, Japanese
    "\ua960-\ua97f\uac00-\ud7ff"  # Hangul
    "\uf900-\ufaff\uff00-\uffef"  # compatibility and full-width forms
    "\U00020000-\U0003ffff"  # rare ideographs
)
_PIECE = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_BYTES = 8
"""Bytes of UTF-8 per token, at most: English words have 6 with their space."""


def text_tokens(text: str) -> int:
    """Estimated number of tokens of a text.

    Words that are separated by spaces, and in scripts without spaces between words (Chinese,
    Japanese, Korean, Thai and others) characters; but at least one token per 8 bytes of UTF-8, for
    long words, and for scripts whose letters take several bytes. For English it is the number of
    words; a tokenizer of English makes about 1.3 times as many tokens.
    """
    if text.isascii():  # the same, faster
        pieces = len(text.split())
        return max(pieces, -(-len(text) // _BYTES))
    return max(len(_PIECE.findall(text)), -(-len(text.encode()) // _BYTES))


def whole_prompt(row: Mapping[str, Any]) -> str:
    """A row's prompt with its context and the earlier turns of its chat, as one text."""
    text = f"{row['prompt']} {row.get('context') or ''}"
    if turns := row.get("turns"):
        text = " ".join([*(turn["content"] for turn in json.loads(turns)), text])
    return text


def prompt_tokens(row: Mapping[str, Any]) -> int:
    """Estimated number of tokens of a row's prompt, context, earlier turns and system text."""
    return text_tokens(f"{row.get('system') or ''} {whole_prompt(row)}".strip())
