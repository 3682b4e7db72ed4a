"""The config's `server:` section: where a teacher is served, and what it is asked there."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, JsonValue
from pydantic import model_validator as checked

from distill.config.values import Section, TokenizerSource
from distill.contracts.dialects.all import DIALECTS

OWN_FIELDS = {
    "model", "messages", "prompt", "temperature", "top_p", "top_k", "max_tokens", "seed",
    "max_completion_tokens", "logprobs", "top_logprobs", "n", "stream",
}  # fmt: skip
"""Fields of a request that the teacher's other keys decide."""


class Server(Section):
    """A server that speaks OpenAI's protocol. See docs/guide/served_teachers.md."""

    url: str = Field(
        description="Its address up to `/v1`, e.g. http://127.0.0.1:8000/v1. Where, not what: text stays valid when the server moves"
    )
    model: Annotated[str, Field(min_length=1)] = Field(
        description="The model's name there, on which the text depends"
    )
    revision: str | None = Field(
        None, description="What else tells the model apart, where several have one name"
    )
    software: Literal[tuple(DIALECTS)] = Field(  # type: ignore[valid-type]
        description="How its own cuts and penalties are turned off, and token ids asked for; `openai`: OpenAI, or another server of whose fields only OpenAI's are used"
    )
    key_variable: str | None = Field(
        None, description="Environment variable that holds the API key (never the key itself)"
    )
    tokenizer: TokenizerSource | None = Field(
        None,
        description="Model source that has the served model's tokenizer and chat template; without it the text has no tokens, and no soft targets",
    )
    top_logprobs: Annotated[int, Field(ge=0, le=1000)] = Field(
        0, description="Likeliest tokens asked for at each position, for caches with a smaller k"
    )
    params: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Parameters that work on a token, to count 2 FLOPs each (default: its work counts none, and the report warns)",
    )
    extra: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Further fields of each request, e.g. {chat_template_kwargs: {enable_thinking: false}}; the text depends on them",
    )
    concurrency: Annotated[int, Field(gt=0)] = Field(
        8, description="Requests of a job under way at once; `--resources requests=…` bounds all"
    )
    timeout: Annotated[float, Field(gt=0)] = Field(
        600, description="Seconds until a try is given up"
    )
    retries: Annotated[int, Field(ge=0)] = Field(
        8,
        description="Further tries after 408, 409, 429, 5xx, timeouts and lost connections, with back-off",
    )

    @checked(mode="after")
    def _consistent(self) -> "Server":
        # What stands in url and key_variable is not repeated: it may hold a secret.
        try:
            parts = urlsplit(self.url)
            known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            raise ValueError("url is no address; it begins http:// or https://") from None
        if not known:
            raise ValueError("url is no address; it begins http:// or https:// and names a host")
        if parts.username is not None or parts.password is not None or "@" in parts.netloc:
            raise ValueError(
                "url must hold no user name or password; put the key into an environment variable and name that in key_variable"
            )
        if parts.query or parts.fragment:
            raise ValueError("url must end with its path, usually /v1, without ? and #")
        if self.key_variable is not None and not _is_variable(self.key_variable):
            raise ValueError(
                "key_variable is the name of an environment variable (capitals, digits and _), such as OPENAI_API_KEY, never the key itself"
            )
        if taken := sorted(OWN_FIELDS & set(self.extra)):
            raise ValueError(f"extra must not set {taken[0]}, which other keys decide")
        if secret := next(filter(_SECRET.search, _keys(self.extra)), None):
            raise ValueError(
                f"extra must hold no key or password, as results repeat it ({secret}); put it into an environment variable and name that in key_variable"
            )
        if self.top_logprobs and self.software not in GIVES_IDS:
            raise ValueError(
                f"top_logprobs: {self.software} does not say which token ids its log-probabilities are of; only {' and '.join(GIVES_IDS)} do"
            )
        if self.top_logprobs == 1:
            raise ValueError(
                "top_logprobs must be at least 2; one fewer are sure to be the likeliest"
            )
        if self.top_logprobs and self.tokenizer is None:
            raise ValueError("top_logprobs needs tokenizer: whose tokens the ids are")
        return self


GIVES_IDS = tuple(name for name, dialect in DIALECTS.items() if dialect.token_id)
"""Software that names the token ids of its log-probabilities."""
_SECRET = re.compile(
    r"api.?key|authori[sz]ation|password|passwd|secret|(access|auth).?token|^token$", re.I
)


def _keys(extra: Any) -> Iterator[str]:
    """The names of fields, those of inner ones too."""
    if isinstance(extra, dict):
        for key, value in extra.items():
            yield str(key)
            yield from _keys(value)
    elif isinstance(extra, list):
        for value in extra:
            yield from _keys(value)


def _is_variable(name: str) -> bool:
    return name.isascii() and name.isidentifier() and name == name.upper()
