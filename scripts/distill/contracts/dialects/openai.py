"""OpenAI, or another server of whose fields only OpenAI's are used."""

from typing import Any

from distill.contracts.dialects.dialect import Decoding, Dialect


def whole_distribution(decoding: Decoding) -> dict[str, Any]:
    """Nothing: temperature and top_p are all that a request can set."""
    return {}


OPENAI = Dialect(
    software="openai",
    whole_distribution=whole_distribution,
    takes_top_k=False,
    chat_length="max_completion_tokens",  # newer models refuse max_tokens in chats
)
