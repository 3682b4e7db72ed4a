"""The config's `server:` section: the server of a teacher, and the fields of its requests."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, JsonValue
from pydantic import model_validator as checked

from distill.config.values import Section, TokenizerSource
from distill.contracts.dialects.all import DIALECTS

RESERVED_FIELDS = {
    "model",
    "messages",
    "prompt",
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "seed",
    "max_completion_tokens",
    "logprobs",
    "top_logprobs",
    "n",
    "stream",
}
"""Fields of a request that the teacher's other keys set."""


class Server(Section):
    """A server with OpenAI's protocol. See docs/guide/served_teachers.md."""

    url: str = Field(
        description="Address of the server up to `/v1`, e.g. http://127.0.0.1:8000/v1. Text stays valid when the server moves"
    )
    model: Annotated[str, Field(min_length=1)] = Field(
        description="Name of the model on the server; the text depends on it"
    )
    revision: str | None = Field(
        None, description="Label that distinguishes models with the same name"
    )
    software: Literal[tuple(DIALECTS)] = Field(  # type: ignore[valid-type]
        description="Server software, which decides the request fields that turn off its default cuts and penalties and ask for token ids; `openai`: OpenAI, or any server with OpenAI's fields alone"
    )
    key_variable: str | None = Field(
        None, description="Environment variable that holds the API key (never the key itself)"
    )
    tokenizer: TokenizerSource | None = Field(
        None,
        description="Model source with the served model's tokenizer and chat template; without it the text has no token ids and no soft targets",
    )
    top_logprobs: Annotated[int, Field(ge=0, le=1000)] = Field(
        0,
        description="Number of most likely tokens to request at each position, for caches with a smaller k",
    )
    params: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Active parameters per token, counted as 2 FLOPs each (default: the server's FLOPs are not counted, and the report warns)",
    )
    extra: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Further fields of each request, e.g. {chat_template_kwargs: {enable_thinking: false}}; the text depends on them",
    )
    concurrency: Annotated[int, Field(gt=0)] = Field(
        8, description="Concurrent requests of one job; `--resources requests=…` limits all jobs"
    )
    timeout: Annotated[float, Field(gt=0)] = Field(600, description="Timeout of a request, seconds")
    retries: Annotated[int, Field(ge=0)] = Field(
        8,
        description="Retries after 408, 409, 429, 5xx, timeouts and lost connections, with back-off",
    )

    @checked(mode="after")
    def _consistent(self) -> "Server":
        # Errors do not repeat the values of url and key_variable: they may hold a secret.
        try:
            parts = urlsplit(self.url)
            known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            raise ValueError("url is not an address; begin it with http:// or https://") from None
        if not known:
            raise ValueError(
                "url is not an address; begin it with http:// or https:// and name a host"
            )
        if parts.username is not None or parts.password is not None or "@" in parts.netloc:
            raise ValueError(
                "url must not hold a user name or password; put the key into an environment variable and name that variable in key_variable"
            )
        if parts.query or parts.fragment:
            raise ValueError("url must end with its path, usually /v1, without ? and #")
        if self.key_variable is not None and not _is_variable(self.key_variable):
            raise ValueError(
                "key_variable must be the name of an environment variable (capitals, digits and _), such as OPENAI_API_KEY, never the key itself"
            )
        if taken := sorted(RESERVED_FIELDS & set(self.extra)):
            raise ValueError(f"extra must not set {taken[0]}, which other keys set")
        if secret := next(filter(_SECRET.search, _keys(self.extra)), None):
            raise ValueError(
                f"extra must not hold a key or password ({secret}), because results repeat it; put it into an environment variable and name that variable in key_variable"
            )
        if self.top_logprobs and self.software not in GIVES_IDS:
            raise ValueError(
                f"top_logprobs: {self.software} does not return the token ids of its log-probabilities; only {' and '.join(GIVES_IDS)} do"
            )
        if self.top_logprobs == 1:
            raise ValueError(
                "top_logprobs must be at least 2, because only the first top_logprobs - 1 are certain to be the most likely tokens"
            )
        if self.top_logprobs and self.tokenizer is None:
            raise ValueError("top_logprobs needs tokenizer, which defines the token ids")
        return self


GIVES_IDS = tuple(name for name, dialect in DIALECTS.items() if dialect.token_id)
"""Software that returns the token ids of its log-probabilities."""
_SECRET = re.compile(
    r"api.?key|authori[sz]ation|password|passwd|secret|(access|auth).?token|^token$", re.I
)


def _keys(extra: Any) -> Iterator[str]:
    """The names of all fields, at every depth."""
    if isinstance(extra, dict):
        for key, value in extra.items():
            yield str(key)
            yield from _keys(value)
    elif isinstance(extra, list):
        for value in extra:
            yield from _keys(value)


def _is_variable(name: str) -> bool:
    return name.isascii() and name.isidentifier() and name == name.upper()
