"""vLLM, which takes top-k, top-p and the repetition penalty from a model's generation config."""

from typing import Any

from distill.contracts.dialects.dialect import Decoding, Dialect


def whole_distribution(decoding: Decoding) -> dict[str, Any]:
    """Fields that override the model's generation config; top_k -1 keeps all tokens."""
    return {"top_k": decoding["top_k"] or -1, "min_p": 0.0, "repetition_penalty": 1.0}


def token_id(text: str, number: int | None) -> int | None:
    """The token id that vLLM returns in place of a token's text, as `token_id:1234`."""
    before, _, digits = text.partition("token_id:")
    return int(digits) if digits.isdigit() and not before else None


VLLM = Dialect(
    software="vllm",
    whole_distribution=whole_distribution,
    log_probs={"return_tokens_as_token_ids": True},
    token_id=token_id,
)
