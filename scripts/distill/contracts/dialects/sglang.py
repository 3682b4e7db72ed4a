"""SGLang, which takes top-k, top-p and the repetition penalty from a model's generation config."""

from typing import Any

from distill.contracts.dialects.dialect import Decoding, Dialect


def whole_distribution(decoding: Decoding) -> dict[str, Any]:
    """Fields that override the model's generation config; top_k -1 keeps all tokens."""
    return {"top_k": decoding["top_k"] or -1, "min_p": 0.0, "repetition_penalty": 1.0}


SGLANG = Dialect(software="sglang", whole_distribution=whole_distribution)
