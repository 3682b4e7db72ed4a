"""Evaluate a model on the held-out chunks of a corpus; a masked model also by pseudo-perplexity."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distill.evaluation.held_out import NO_REFERENCE, reference_metrics, score_examples
from distill.models.formatting import control_tokens, encode_plain
from distill.models.masking import Special, mask_chunk, true_ids
from distill.models.rows import Example
from distill.stats.tokens import token_mean


def evaluate_on_corpus(
    model: Any,
    tokenizer: Any,
    rows: Sequence[dict[str, Any]],
    passages: Sequence[str],
    spec: dict[str, Any],
) -> dict[str, Any]:
    """Metrics of a corpus study in addition to held-out chunks; it has no prompts.

    Args:
        model: The model in eval mode.
        tokenizer: Its tokenizer.
        rows: The held-out chunks.
        passages: The reference text, if there is one beside them.
        spec: batch_size and reference; for a masked model also mask and pseudo_chunks.

    Returns:
        reference, instructions and answers (none), and for a masked model pseudo.
    """
    metrics: dict[str, Any] = {"reference": NO_REFERENCE}
    batch, mask = spec["batch_size"], spec.get("mask")
    if passages and mask:
        longest = spec["reference"]["max_tokens"]
        metrics["reference"] = masked_reference(model, tokenizer, passages, longest, mask, batch)
    elif passages:
        longest = spec["reference"]["max_tokens"]
        metrics["reference"] = reference_metrics(model, tokenizer, passages, longest, batch)
    if mask:
        chosen = rows[: spec["pseudo_chunks"]]
        logging.info("scoring %d chunks a token at a time", len(chosen))
        metrics["pseudo"] = pseudo_metrics(model, tokenizer, chosen, batch)
    return metrics | dict.fromkeys(("instructions", "answers", "answers_validation"))


def masked_reference(
    model: Any,
    tokenizer: Any,
    passages: Sequence[str],
    max_tokens: int,
    mask: Mapping[str, Any],
    batch_size: int,
) -> dict[str, Any]:
    """Loss at the masked tokens of a fixed text, each passage a chunk with its own mask.

    Args:
        model: A masked model in eval mode.
        tokenizer: The model's.
        passages: The text.
        max_tokens: Tokens of a passage that are used.
        mask: The task's mask settings.
        batch_size: Passages per forward pass.
    """
    special, examples = Special.of(tokenizer, "the study"), []
    controls = control_tokens(tokenizer)
    for number, passage in enumerate(passages):
        ids = encode_plain(tokenizer, passage, controls)[:max_tokens]
        if ids:
            examples.append(mask_chunk(f"reference-{number}", ids, special, mask))
    scored = score_examples(model, examples, tokenizer.pad_token_id, batch_size)
    tokens = [int(item["tokens"]) for item in scored]
    loss, stderr = token_mean([item["nats"] for item in scored], tokens)
    return {
        "loss": loss,
        "loss_stderr": stderr,
        "bits_per_byte": None,
        "passages": len(examples),
        "tokens": sum(tokens),
    }


def one_at_a_time(example: Example, special: Special) -> Iterator[Example]:
    """A chunk once per token, with only that token masked."""
    true = true_ids(example)
    for place in range(1, len(true) - 1):
        if special.ordinary[true[place]]:
            seen = [*true[:place], special.mask, *true[place + 1 :]]
            yield Example(seen, [true[place]], [place])


def pseudo_metrics(
    model: Any, tokenizer: Any, rows: Sequence[dict[str, Any]], batch_size: int
) -> dict[str, Any]:
    """Pseudo-perplexity: exp of the mean -log p of each token given all others of its chunk.

    Salazar et al. 2020, "Masked Language Model Scoring", equations 1 and 2: a forward pass per
    token. Masked perplexity differs: it hides a share of the tokens at once.

    Args:
        model: Masked, in eval mode.
        tokenizer: Its tokenizer.
        rows: Masked chunks.
        batch_size: Sequences per forward pass.

    Returns:
        loss (nats per token) with its loss_stderr over chunks, perplexity, chunks and tokens.
    """
    special, nats, tokens = Special.of(tokenizer, "the study"), [], []
    for row in rows:
        chunk = Example(*(list(row[name]) for name in ("prompt_ids", "response_ids", "positions")))
        each = list(one_at_a_time(chunk, special))
        scored = score_examples(model, each, tokenizer.pad_token_id, batch_size)
        nats.append(sum(item["nats"] for item in scored))
        tokens.append(len(each))
    loss, stderr = token_mean(nats, tokens)
    return {
        "loss": loss,
        "loss_stderr": stderr,
        "perplexity": math.exp(loss),
        "chunks": len(rows),
        "tokens": sum(tokens),
    }
