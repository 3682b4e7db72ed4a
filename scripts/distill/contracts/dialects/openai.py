"""OpenAI, or another server that is used with OpenAI's fields only."""

from typing import Any

from distill.contracts.dialects.dialect import Decoding, Dialect


def whole_distribution(decoding: Decoding) -> dict[str, Any]:
    """No fields: a request can set only temperature and top_p."""
    return {}


OPENAI = Dialect(
    software="openai",
    whole_distribution=whole_distribution,
    takes_top_k=False,
    chat_length="max_completion_tokens",  # newer models reject max_tokens in chats
)
