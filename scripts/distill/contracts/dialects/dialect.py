"""Differences between OpenAI-compatible servers: each dialect is a file of this folder.

Servers apply cuts and penalties by default or from the model's generation config. Therefore a
request states the full sampling distribution q in the dialect's fields, so that an answer is a
sample from q.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Decoding = Mapping[str, Any]
"""A teacher's sampling settings: temperature, top_k (0 for none), top_p and others."""


@dataclass(frozen=True)
class Dialect:
    """How a server differs from OpenAI's protocol.

    Attributes:
        software: Name in the config (`server.software`).
        whole_distribution: Maps the sampling settings to the request's fields that turn off the
            server's changes of q and set top-k.
        takes_top_k: Whether a request can set top-k.
        chat_length: The field of a chat request that limits the answer's tokens.
        log_probs: Further fields of a request for log-probabilities.
        token_id: Maps the text and the `id` of a token in the reply's log-probabilities to its
            token id, None if the reply lacks it. None if the server cannot return token ids; then
            `top_logprobs` is an error.
    """

    software: str
    whole_distribution: Callable[[Decoding], dict[str, Any]]
    takes_top_k: bool = True
    chat_length: str = "max_tokens"
    log_probs: Mapping[str, Any] = field(default_factory=dict)
    token_id: Callable[[str, int | None], int | None] | None = None
