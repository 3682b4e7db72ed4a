"""A server's answers: parsed from its replies, checked against its log-probabilities."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from distill.contracts.dialects.all import DIALECTS
from distill.contracts.dialects.dialect import Dialect
from distill.core.errors import UserError

NO_THINKING = (
    "turn thinking off, by chat_template_kwargs: {enable_thinking: false} (vLLM, SGLang, "
    "llama.cpp), or make it shorter, by server.extra: {reasoning_effort: low} (OpenAI, vLLM)"
)
"""How a request keeps a reasoning model from thinking."""
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
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(BaseModel):
    message: _Message | None = None
    text: str | None = None
    finish_reason: str
    logprobs: _LogProbs | None = None


class _Details(BaseModel):
    reasoning_tokens: int | None = None


class _Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    completion_tokens_details: _Details | None = None

    @property
    def thought(self) -> bool:
        """Whether some of the tokens are thinking."""
        details = self.completion_tokens_details
        return bool(details and details.reasoning_tokens)


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


def _told(choice: _Choice, usage: _Usage, decoding: Mapping[str, Any]) -> tuple[str, str | None]:
    """The response in a reply, and its thinking if the server reports any.

    Args:
        choice: Of the reply.
        usage: Of the reply.
        decoding: thinking and thinking_end, where they are set.

    Raises:
        ValueError: Thinking is to be learned, but only its length is reported.
    """
    if choice.message is None:
        return choice.text or "", None
    message, mode = choice.message, decoding.get("thinking")
    text, thinking = message.content or "", message.reasoning_content or message.reasoning
    if thinking is None and usage.thought:
        thinking = ""
    if mode == "drop" and thinking is None:  # the server leaves it in the text
        before, end, behind = text.partition(decoding["thinking_end"])
        return (behind.lstrip(), before) if end else (text, None)
    if mode != "train" or thinking is None:
        return text, thinking
    if not thinking:
        raise ValueError(
            f"thinking: train needs the text of the thinking, which is not reported; use drop, or "
            f"{NO_THINKING}"
        )
    end = decoding["thinking_end"]
    begin = end.replace("</", "<", 1) if end.startswith("</") else ""
    cut = choice.finish_reason == "length" and not text
    lines = [begin, thinking.strip("\n"), *([] if cut else [f"{end}\n"]), text]
    return "\n".join(lines).strip("\n"), thinking


def check_thinking(answers: Sequence[Mapping[str, Any]], limit: int, name: str) -> None:
    """Warn of answers that are thinking alone.

    Args:
        answers: Rows of `ANSWERS_SCHEMA`.
        limit: max_tokens of the teacher.
        name: Of the teacher, for the sentence.

    Raises:
        UserError: They are more than half, so students would learn to answer nothing.
    """
    thought = [answer for answer in answers if answer.get("thinking") is not None]
    lost = sum(not answer["response"].strip() for answer in thought)
    if not lost:
        return
    sentence = (
        f"{name}: {lost} of {len(answers)} answers are thinking alone, without a response within "
        f"max_tokens ({limit}); raise max_tokens, or {NO_THINKING}"
    )
    if 2 * lost > len(answers):
        raise UserError(sentence)
    logging.warning("%s", sentence)


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
    text, thinking = _told(choice, read.usage, spec["decoding"])
    answer: dict[str, Any] = {
        "response": text,
        "finish_reason": choice.finish_reason,
        "prompt_tokens": read.usage.prompt_tokens,
        "tokens": read.usage.completion_tokens,
        "model": read.model,
        "thinking": thinking,
        **dict.fromkeys(("ids", "log_p", "top_ids", "top_log_p")),
    }
    top_logprobs = spec["server"]["top_logprobs"]
    if not top_logprobs:
        return answer
    if choice.logprobs is None or choice.logprobs.content is None:
        raise ValueError("it has no log-probabilities")
    if thinking is not None and spec["decoding"].get("thinking") != "train":
        raise ValueError(
            "its log-probabilities cover thinking that is not part of the response; set thinking: "
            f"train, or server.top_logprobs to 0, or {NO_THINKING}"
        )
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
