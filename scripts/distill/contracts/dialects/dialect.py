"""What an OpenAI-compatible server does in its own way: each dialect is a file of this folder.

Servers cut and penalise by defaults of their own or of the model's generation config. A request
therefore states the whole sampling distribution q in the dialect's fields, so that an answer is a
draw from q.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Decoding = Mapping[str, Any]
"""A teacher's sampling settings: temperature, top_k (0 for none), top_p and others."""


@dataclass(frozen=True)
class Dialect:
    """Where a server differs from OpenAI's protocol.

    Attributes:
        software: Its name in the config (`server.software`).
        whole_distribution: From the sampling settings to the request's fields that turn off what
            the server would do to q by itself, and that set top-k.
        takes_top_k: Whether a request can set top-k.
        chat_length: The field of a chat's request that limits the answer's tokens.
        log_probs: Further fields of a request that asks for log-probabilities.
        token_id: From the text and the `id` of a token in the reply's log-probabilities to its
            number in the vocabulary, None if the reply lacks it. Without this function
            log-probabilities cannot be asked for.
    """

    software: str
    whole_distribution: Callable[[Decoding], dict[str, Any]]
    takes_top_k: bool = True
    chat_length: str = "max_tokens"
    log_probs: Mapping[str, Any] = field(default_factory=dict)
    token_id: Callable[[str, int | None], int | None] | None = None
