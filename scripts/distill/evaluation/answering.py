"""Let a model answer prompts, greedily or by sampling; compare answers with references."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from distill.contracts.run import AT_ONCE
from distill.core.noise import row_uniforms
from distill.models.decoding import Decoding
from distill.models.formatting import asked, encoder
from distill.models.opening import check_context
from distill.models.responses import Responses
from distill.models.sampling import sample_batch

GREEDY = Decoding(temperature=0.0)


def answer_prompts(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[tuple[str | None, ...]],
    formatting: dict[str, Any],
    max_tokens: int,
    batch_size: int = AT_ONCE,
    decoding: Decoding = GREEDY,
    noise: Sequence[np.ndarray] | None = None,
    stop: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Answers to prompts (with context): text, tokens and finish_reason of each.

    Args:
        model: The model in eval mode.
        tokenizer: Its tokenizer.
        prompts: What `asked` gives of rows; or prompts with their contexts.
        formatting: How a prompt becomes input.
        max_tokens: Of an answer.
        batch_size: Prompts answered at once, those of like length together.
        decoding: The distribution answered from; greedy at temperature 0.
        noise: Per prompt its uniforms [max_tokens], for a temperature above 0.
        stop: Texts that end an answer, beside the model's ends of turn.

    Raises:
        UserError: A prompt and its answer exceed the model's context.
    """
    encode = encoder(tokenizer, **formatting)
    encoded = [encode(*prompt) for prompt in prompts]
    responses = Responses(tokenizer, formatting["template"], {"stop": stop})
    longest = max(map(len, encoded), default=0)
    check_context(model.config, longest + max_tokens, getattr(model, "name_or_path", "the model"))
    order = sorted(range(len(prompts)), key=lambda number: (len(encoded[number]), number))
    answers: list[dict[str, Any]] = [{} for _ in prompts]
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        sampled = sample_batch(
            model,
            [encoded[number] for number in batch],
            stop_ids=responses.turns.stops,
            max_new_tokens=max_tokens,
            decoding=decoding,
            uniforms=None if noise is None else np.stack([noise[number] for number in batch]),
            stopped=responses.stopped,
        )
        for number, (new, reason) in zip(batch, sampled, strict=True):
            answers[number] = {
                "text": responses.text(new),
                "tokens": len(new),
                "finish_reason": reason,
            }
    return answers


def draw_answers(
    model: Any,
    tokenizer: Any,
    rows: Sequence[dict[str, Any]],
    formatting: dict[str, Any],
    settings: dict[str, Any],
    stop: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Sampled answers to rows of text; each row's noise depends on its id and the seed alone.

    Args:
        model: The model in eval mode.
        tokenizer: Its tokenizer.
        rows: With id, prompt and context, and perhaps system and turns.
        formatting: How a prompt becomes input.
        settings: temperature, top_k, top_p, max_tokens, batch_size and seed.
        stop: As of `answer_prompts`.
    """
    steps = settings["max_tokens"]
    decoding = Decoding(settings["temperature"], settings["top_k"], settings["top_p"])
    noise = [row_uniforms(row["id"], settings["seed"], steps) for row in rows]
    return answer_prompts(
        model,
        tokenizer,
        [asked(row) for row in rows],
        formatting,
        steps,
        settings["batch_size"],
        decoding,
        noise if decoding.temperature else None,
        stop,
    )


def likeness(
    rows: Sequence[dict[str, Any]], answers: Sequence[dict[str, Any]]
) -> dict[str, float] | None:
    """BLEU and ROUGE-L of answers against the rows' references; None without rows."""
    if not rows:
        return None
    from distill.evaluation.text_metrics import (
        text_similarity,  # a second of imports, rarely needed
    )

    return text_similarity(
        [row["reference"] for row in rows], [answer["text"] for answer in answers]
    )
