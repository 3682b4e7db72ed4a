"""A server's answers: parsed from its replies, checked against its log-probabilities."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from distill.contracts.dialects.all import DIALECTS
from distill.contracts.dialects.dialect import Dialect
from distill.core.errors import UserError

FINISHED = ("stop", "length", "content_filter")


class _Token(BaseModel):
    token: str = ""
    logprob: float
    id: int | None = None


class _Position(_Token):
    top_logprobs: list[_Token] = []


class _LogProbs(BaseModel):
    content: list[_Position] | None = None


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message | None = None
    text: str | None = None
    finish_reason: str
    logprobs: _LogProbs | None = None


class _Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int


class _Reply(BaseModel):
    model: str | None = None
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage


def _id_of(token: _Token, dialect: Dialect) -> int:
    """A token's number in the vocabulary."""
    number = dialect.token_id(token.token, token.id) if dialect.token_id else None
    if number is None:
        raise ValueError("its log-probabilities come without token ids")
    return number


def read_answer(reply: Any, spec: dict[str, Any]) -> dict[str, Any]:
    """The columns of `ANSWERS_SCHEMA`, but id and seconds, of one reply.

    Args:
        reply: The reply's JSON.
        spec: server and decoding.

    Raises:
        ValueError: It is not an answer to the request; the text says why.
    """
    try:
        read = _Reply.model_validate(reply)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the reply"
        raise ValueError(f"{where}: {first['msg'].lower()}") from None
    choice, limit = read.choices[0], spec["decoding"]["max_tokens"]
    if choice.finish_reason not in FINISHED:
        raise ValueError(f"finish_reason is {choice.finish_reason!r}")
    if read.usage.completion_tokens > limit:
        raise ValueError(f"it has {read.usage.completion_tokens} tokens, {limit} were allowed")
    text = choice.message.content if choice.message else choice.text
    answer: dict[str, Any] = {
        "response": text or "",
        "finish_reason": choice.finish_reason,
        "prompt_tokens": read.usage.prompt_tokens,
        "tokens": read.usage.completion_tokens,
        "model": read.model,
        **dict.fromkeys(("ids", "log_p", "top_ids", "top_log_p")),
    }
    top_logprobs = spec["server"]["top_logprobs"]
    if not top_logprobs:
        return answer
    if choice.logprobs is None or choice.logprobs.content is None:
        raise ValueError("it has no log-probabilities")
    answer |= {"ids": [], "log_p": [], "top_ids": [], "top_log_p": []}
    dialect = DIALECTS[spec["server"]["software"]]
    for position in choice.logprobs.content:
        drawn = _id_of(position, dialect)
        known = {_id_of(token, dialect): token.logprob for token in position.top_logprobs}
        known |= {drawn: position.logprob}
        ranked = sorted(known.items(), key=lambda pair: (-pair[1], pair[0]))[:top_logprobs]
        if not all(-math.inf < value <= 1e-4 for value in known.values()):
            raise ValueError(f"a log-probability is {max(known.values())}")
        answer["ids"].append(drawn)
        answer["log_p"].append(position.logprob)
        answer["top_ids"].append([name for name, _ in ranked])
        answer["top_log_p"].append([value for _, value in ranked])
    return answer


def check_draws(answers: Sequence[dict[str, Any]], k: int) -> None:
    """Check that the tokens were drawn with the probabilities that the server reports.

    If so, the number of positions at which the most likely token was drawn (or none of the `k` most
    likely) differs from the sum of their probabilities by a martingale of variance sum p (1 - p).
    A difference above five standard deviations plus five positions is refused: the server decodes
    greedily, or adds another temperature, cut or penalty.

    Raises:
        UserError: They were not.
    """
    events: dict[str, list[tuple[float, bool]]] = {"likeliest": [], "outside": []}
    for row in answers:
        for drawn, ids, logs in zip(row["ids"], row["top_ids"], row["top_log_p"], strict=True):
            p = np.exp(logs[:k])
            events["likeliest"].append((float(p[0]), drawn == ids[0]))
            events["outside"].append((max(0.0, 1 - float(p.sum())), drawn not in ids[:k]))
    for name, draws in events.items():
        expected = math.fsum(p for p, _ in draws)
        seen = sum(hit for _, hit in draws)
        spread = math.sqrt(math.fsum(max(0.0, p * (1 - p)) for p, _ in draws))
        if abs(seen - expected) > 5 * spread + 5:
            what = (
                "the most likely token" if name == "likeliest" else f"none of the {k} most likely"
            )
            raise UserError(
                f"of {len(draws)} tokens {seen} are {what} but by the server's own "
                f"log-probabilities {expected:.0f} ± {spread:.0f} would be: it does not draw from "
                "the distribution that it reports; turn off its own cuts, penalties and "
                "temperature, or name its software rightly"
            )
