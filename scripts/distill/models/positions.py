"""What a token's position in a text changes, by a model's config."""

from collections.abc import Iterator, Mapping
from typing import Any

from distill.core.model_files import unused_positions

_WINDOWS = ("sliding_window", "window_size", "attention_window_size", "attention_chunk_size")
"""Entries of a config that limit attention to near tokens, by their distance in columns."""
_BY_LENGTH = ("dynamic", "longrope")
"""Rotary embeddings that change for all tokens once a text is longer than a threshold."""


def windows(config: Any) -> list[int]:
    """Widths of a model's local attention, in tokens."""
    text = config.get_text_config()
    widths = [getattr(text, key, None) for key in _WINDOWS]
    return [width for width in widths if isinstance(width, int) and width > 0]


def _ropes(entries: Any) -> Iterator[Mapping[str, Any]]:
    """Settings of rotary embeddings, which some configs have for each kind of layer."""
    if isinstance(entries, Mapping):
        yield entries
        for value in entries.values():
            yield from _ropes(value)


def length_limit(config: Any) -> int | None:
    """Tokens beyond which rotary embeddings depend on a text's length; None if they never do."""
    text = config.get_text_config()
    limits = [
        rope.get("original_max_position_embeddings")
        or getattr(text, "original_max_position_embeddings", None)
        or text.max_position_embeddings
        for rope in _ropes(getattr(text, "rope_parameters", None))
        if rope.get("rope_type") in _BY_LENGTH
    ]
    return min(limits) if limits else None


def depends_on_length(config: Any, tokens: int) -> bool:
    """Whether a token's logits depend on the length of a text of `tokens` tokens."""
    limit = length_limit(config)
    return limit is not None and tokens > limit


def context_of(config: Any) -> int | None:
    """Most tokens that a model reads; None where its config does not say."""
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    return None if positions is None else positions - unused_positions(text.to_dict())
