"""A family of masked students and their exact parameter counts in closed form.

A student with h heads of equal width has hidden size h * head width, a feed-forward layer four
times as wide, and max(1, h - 1) layers, so width, heads and depth grow together as in BERT-base
(12 heads of 64, 12 layers). With BERT's vocabulary, sizes run from 2 to 102 million parameters.
"""

from collections.abc import Mapping
from typing import Any

from distill.core.display import brief

HEAD_WIDTH = 64
"""Width of an attention head in BERT."""


def family_config(heads: int, head_width: int = HEAD_WIDTH) -> dict[str, int]:
    """The Hugging Face config entries of the family's student with `heads` heads."""
    width = heads * head_width
    return {
        "hidden_size": width,
        "num_hidden_layers": max(1, heads - 1),
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
    }


def bert_parameters(config: Mapping[str, Any]) -> tuple[int, int]:
    """Count the parameters of a BERT with its masked-language head; tied matrices count once.

    With width d, feed-forward width f, L layers, V tokens and P positions:

    - embeddings: (V + P + 2) d for tokens, positions and two token types, and 2 d for their norm;
    - a layer: 4 (d^2 + d) for queries, keys, values and output, 2 d f + f + d for the feed-forward
      part, and 4 d for two norms;
    - head: d^2 + d and 2 d for its own layer and norm, and V biases; its matrix is the embeddings'.

    Args:
        config: hidden_size, intermediate_size, num_hidden_layers, vocab_size,
            max_position_embeddings and type_vocab_size (default 2).

    Returns:
        Total, and non-embedding: without the three tables and the head's matrix and biases.
    """
    width, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    tokens, positions = int(config["vocab_size"]), int(config["max_position_embeddings"])
    tables = (tokens + positions + int(config.get("type_vocab_size", 2))) * width
    layer = 4 * (width**2 + width) + 2 * width * inner + inner + width + 4 * width
    body = 2 * width + int(config["num_hidden_layers"]) * layer + width**2 + width + 2 * width
    return tables + tokens + body, body


_SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
)


def closed_form(config: Mapping[str, Any]) -> int | None:
    """Parameters of a masked student; None unless its config is a BERT's and states all sizes.

    Raises:
        ValueError: A size is not a positive integer.
    """
    if config.get("model_type") != "bert" or not all(name in config for name in _SIZES):
        return None
    for name in (*_SIZES, "type_vocab_size"):
        size = config.get(name, 2)
        if isinstance(size, bool) or not isinstance(size, int) or size <= 0:
            raise ValueError(f"config.{name} must be a positive integer, but it is {brief(size)}")
    return bert_parameters(config)[0]
