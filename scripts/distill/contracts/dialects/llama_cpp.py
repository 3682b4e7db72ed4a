"""llama.cpp, which cuts at top-k 40, top-p .95 and min-p .05 unless told otherwise."""

from typing import Any

from distill.contracts.dialects.dialect import Decoding, Dialect


def whole_distribution(decoding: Decoding) -> dict[str, Any]:
    """Samplers that are not named (min-p, penalties and others) do not act."""
    return {"top_k": decoding["top_k"], "samplers": ["temperature", "top_k", "top_p"]}


def token_id(text: str, number: int | None) -> int | None:
    """The `id` that llama.cpp adds to each token."""
    return number


LLAMA_CPP = Dialect(software="llama.cpp", whole_distribution=whole_distribution, token_id=token_id)
