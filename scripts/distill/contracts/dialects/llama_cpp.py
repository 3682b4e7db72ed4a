"""llama.cpp, whose defaults are top-k 40, top-p .95 and min-p .05."""

from typing import Any

from distill.contracts.dialects.dialect import Decoding, Dialect


def whole_distribution(decoding: Decoding) -> dict[str, Any]:
    """List the samplers to use; all others (min-p, penalties and more) are off."""
    return {"top_k": decoding["top_k"], "samplers": ["temperature", "top_k", "top_p"]}


def token_id(text: str, number: int | None) -> int | None:
    """The `id` that llama.cpp adds to each token."""
    return number


LLAMA_CPP = Dialect(software="llama.cpp", whole_distribution=whole_distribution, token_id=token_id)
