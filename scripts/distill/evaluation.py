"""Judge a model: on held-out teacher text, a reference text and verifiable instructions."""

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from tqdm import tqdm

from distill.encoding import Example, collate, encode_rows
from distill.formatting import encoder, turn_end
from distill.instructions import (
    Instruction,
    check_response,
    instruction_sets,
    wilson_interval,
)
from distill.losses import chunk_rows
from distill.sampling import Decoding, log_q, sample_batch
from distill.scores import OutputHead, hidden_states
from distill.statistics import token_mean, unigram_entropy

GREEDY = Decoding(temperature=0.0)


def _by_length(examples: Sequence[Example], size: int) -> list[list[int]]:
    """Batches of example numbers of like length, longest first."""
    lengths = [len(example.prompt) + len(example.answer) for example in examples]
    order = sorted(range(len(examples)), key=lambda number: (-lengths[number], number))
    return [order[start : start + size] for start in range(0, len(order), size)]


@torch.inference_mode()
def score_examples(
    model: Any,
    examples: Sequence[Example],
    pad: int,
    batch_size: int,
    teacher: Sequence[torch.Tensor] | None = None,
    head: OutputHead | None = None,
    decoding: Decoding | None = None,
) -> list[dict[str, float]]:
    """Sums over each example's answer tokens.

    Args:
        model: The model that is judged, in eval mode.
        examples: Token ids in its vocabulary.
        pad: Any valid token id.
        batch_size: Examples per forward pass.
        teacher: Per example, the teacher's final hidden states [answer tokens, width]; None where
            the vocabularies differ or there is no model behind the text.
        head: The teacher's output head.
        decoding: The teacher's sampling distribution q.

    Returns:
        Per example: tokens, nats (cross-entropy), and with a teacher kl (KL(q || model), nats) and
        agree (tokens at which both find the same token likeliest).
    """
    results: list[dict[str, float]] = [{} for _ in examples]
    for batch in tqdm(_by_length(examples, batch_size), desc="scoring", mininterval=5, leave=False):
        chosen = [examples[number] for number in batch]
        inputs = {key: value.to(model.device) for key, value in collate(chosen, pad).items()}
        keep = inputs["shift_labels"] != -100
        logits = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            logits_to_keep=keep,
            use_cache=False,
        ).logits
        targets = inputs["shift_labels"][keep]
        columns = {name: torch.empty(len(targets)) for name in ("nats", "kl", "agree")}
        states = None if teacher is None else torch.cat([teacher[number] for number in batch])
        size = 2 * chunk_rows(logits)
        for first in range(0, len(targets), 512):  # the head wants many rows, the softmax few
            block = slice(first, first + 512)
            own_logits = None
            if states is not None and head is not None:
                own_logits = head.logits(states[block].to(logits.device))
            for start in range(first, min(first + 512, len(targets)), size):
                part = slice(start, min(start + size, first + 512))
                logs = torch.log_softmax(logits[part].float(), dim=-1)
                nats = -logs.gather(1, targets[part].unsqueeze(1)).squeeze(1)
                columns["nats"][part] = nats.cpu()
                if own_logits is not None and decoding is not None:
                    own = log_q(own_logits[start - first : part.stop - first], decoding)
                    # Heads padded to different widths: ids beyond the tokenizer's are no text.
                    width = min(own.shape[-1], logs.shape[-1])
                    own, logs = own[..., :width], logs[..., :width]
                    columns["agree"][part] = (own.argmax(-1) == logs.argmax(-1)).float().cpu()
                    # Where q is 0 (a cut tail), log q is -inf and the term is 0.
                    columns["kl"][part] = (own.exp() * (own.clamp_min(-1e9) - logs)).sum(-1).cpu()
        ends = torch.cumsum(keep.sum(1), 0).tolist()
        for place, number in enumerate(batch):
            first = ends[place - 1] if place else 0
            sums = {
                name: float(column[first : ends[place]].double().sum())
                for name, column in columns.items()
            }
            results[number] = {"tokens": ends[place] - first, **sums}
            if states is None:
                del results[number]["kl"], results[number]["agree"]
    return results


def held_out_metrics(
    scored: Sequence[dict[str, float]],
    examples: Sequence[Example],
    answer_bytes: int,
    teacher_scores: Sequence[dict[str, Any]] | None,
    trained_types: set[int],
) -> dict[str, Any]:
    """Metrics on the teacher's held-out text.

    Args:
        scored: From `score_examples`.
        examples: The same examples.
        answer_bytes: UTF-8 bytes of the text that the scored tokens cover; the nats of EOS are in
            the loss, so they count in bits per byte too.
        teacher_scores: Score rows of the teacher in the same order; None without its tokens.
        trained_types: Token ids that were targets in training.

    Returns:
        loss (nats per token), loss_stderr (over prompts), perplexity, bits_per_byte,
        unseen_token_share, unigram_entropy and, with a teacher, loss_teacher, kl_teacher,
        kl_stderr, top1_agreement and identity: loss - loss_teacher - kl_teacher, which is 0 in
        expectation, with its paired standard error.
    """
    tokens = [int(item["tokens"]) for item in scored]
    nats = [item["nats"] for item in scored]
    loss, stderr = token_mean(nats, tokens)
    flat = [token for example in examples for token in example.answer]
    counts: dict[int, int] = {}
    for token in flat:
        counts[token] = counts.get(token, 0) + 1
    unseen = sum(count for token, count in counts.items() if token not in trained_types)
    metrics: dict[str, Any] = {
        "prompts": len(scored),
        "tokens": sum(tokens),
        "loss": loss,
        "loss_stderr": stderr,
        "perplexity": math.exp(loss),
        "bits_per_byte": sum(nats) / math.log(2) / answer_bytes,
        "unseen_token_share": unseen / len(flat),
        "unigram_entropy": unigram_entropy(list(counts.values())),
        "loss_teacher": None,
        "kl_teacher": None,
        "kl_stderr": None,
        "top1_agreement": None,
        "identity": None,
    }
    if teacher_scores is not None:
        own = [-sum(row["log_q"]) for row in teacher_scores]
        kl = [item["kl"] for item in scored]
        rest = [mine - yours - gap for mine, yours, gap in zip(nats, own, kl, strict=True)]
        difference, error = token_mean(rest, tokens)
        metrics["loss_teacher"] = token_mean(own, tokens)[0]
        metrics["kl_teacher"], metrics["kl_stderr"] = token_mean(kl, tokens)
        metrics["top1_agreement"] = sum(item["agree"] for item in scored) / sum(tokens)
        metrics["identity"] = {
            "difference": difference,
            "stderr": error,
            "z": difference / error if error > 0 else 0.0,
        }
    return metrics


def reference_metrics(
    model: Any, tokenizer: Any, passages: Sequence[str], max_tokens: int, batch_size: int
) -> dict[str, Any]:
    """Loss and bits per byte on a text that no teacher of the study wrote.

    Each passage stands alone, after BOS where the tokenizer has one (else its first token is not
    scored), and is cut to `max_tokens`; no EOS is scored.
    """
    examples, covered = [], 0
    for passage in passages:
        ids = tokenizer(passage, add_special_tokens=False).input_ids[:max_tokens]
        start = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else ids[:1]
        body = ids if tokenizer.bos_token_id is not None else ids[1:]
        if body:
            examples.append(Example(start, body))
            covered += len(tokenizer.decode(body).encode())
    scored = score_examples(model, examples, tokenizer.pad_token_id, batch_size)
    nats, tokens = [item["nats"] for item in scored], [int(item["tokens"]) for item in scored]
    loss, stderr = token_mean(nats, tokens)
    return {
        "loss": loss,
        "loss_stderr": stderr,
        "bits_per_byte": sum(nats) / math.log(2) / covered,
        "passages": len(examples),
        "tokens": sum(tokens),
    }


def answer_prompts(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[tuple[str, str | None]],
    formatting: dict[str, Any],
    max_tokens: int,
    batch_size: int = 128,
) -> list[dict[str, Any]]:
    """Greedy answers to prompts (with context): text, tokens and finish_reason of each."""
    encode = encoder(tokenizer, **formatting)
    encoded = [encode(*prompt) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda number: (len(encoded[number]), number))
    answers: list[dict[str, Any]] = [{} for _ in prompts]
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        made = sample_batch(
            model,
            [encoded[number] for number in batch],
            stop_ids=turn_end(tokenizer),
            max_new_tokens=max_tokens,
            decoding=GREEDY,
            uniforms=None,
        )
        for number, (new, reason) in zip(batch, made, strict=True):
            text = tokenizer.decode(new, skip_special_tokens=True)
            answers[number] = {"text": text, "tokens": len(new), "finish_reason": reason}
    return answers


def _pass_rate(items: Sequence[Instruction], passed: Sequence[bool]) -> dict[str, Any]:
    low, high = wilson_interval(sum(passed), len(passed))
    return {
        "total": len(passed),
        "passed": sum(passed),
        "rate": sum(passed) / len(passed),
        "low": low,
        "high": high,
        "results": {item.id: ok for item, ok in zip(items, passed, strict=True)},
    }


def evaluate_model(
    model: Any,
    tokenizer: Any,
    rows: Sequence[dict[str, Any]],
    scores: Sequence[dict[str, Any]],
    head: OutputHead | None,
    text_tokenizer: str | None,
    passages: Sequence[str],
    trained_types: set[int],
    spec: dict[str, Any],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """All metrics of a model but its speed.

    Args:
        model: The model in eval mode.
        tokenizer: Its tokenizer.
        rows: The teacher's held-out text.
        scores: The teacher's scores of it, empty for ready-made text.
        head: The teacher's output head, None for ready-made text.
        text_tokenizer: Digest of the text's tokenizer.
        passages: The reference text.
        trained_types: Token ids that were targets in training.
        spec: text, formatting, reference, generated_instructions, instruction_tokens,
            qualitative and batch_size.

    Returns:
        The metrics, and the responses to instructions and a few held-out prompts.
    """
    length = model.config.max_position_embeddings
    examples = encode_rows(rows, tokenizer, spec["formatting"], text_tokenizer, length)
    drawn = [list(row["prompt_ids"] or []) + list(row["response_ids"] or []) for row in rows]
    shared = all(
        example.prompt + example.answer == ids for example, ids in zip(examples, drawn, strict=True)
    )
    decoding = None
    hidden: list[torch.Tensor] | None = None
    if shared and head is not None and scores:
        settings = spec["text"]["decoding"]
        decoding = Decoding(settings["temperature"], settings["top_k"], settings["top_p"])
        width = head.weight.shape[1]
        hidden = [hidden_states(score["hidden"], width) for score in scores]
    logging.info("scoring %d held-out responses", len(examples))
    scored = score_examples(
        model, examples, tokenizer.pad_token_id, spec["batch_size"], hidden, head, decoding
    )
    covered = sum(len(row["response"].encode()) for row in rows)
    metrics: dict[str, Any] = {
        "heldout": held_out_metrics(
            scored, examples, covered, scores if hidden is not None else None, trained_types
        ),
        "reference": reference_metrics(
            model, tokenizer, passages, spec["reference"]["max_tokens"], spec["batch_size"]
        ),
    }
    sets = instruction_sets(spec["generated_instructions"])
    shown = list(rows[: spec["qualitative"]])
    asked = [(item.prompt, None) for items in sets.values() for item in items]
    asked += [(row["prompt"], row["context"]) for row in shown]
    logging.info("answering %d prompts", len(asked))
    answers = answer_prompts(
        model, tokenizer, asked, spec["formatting"], spec["instruction_tokens"]
    )
    responses, place = [], 0
    metrics["instructions"] = {}
    for name, items in sets.items():
        passed = []
        for item in items:
            answer = answers[place]
            passed.append(check_response(item, answer["text"]))
            responses.append(
                {"set": name, "id": item.id, "prompt": item.prompt, **answer, "passed": passed[-1]}
            )
            place += 1
        metrics["instructions"][name] = _pass_rate(items, passed)
    for row, answer in zip(shown, answers[place:], strict=True):
        responses.append(
            {"set": "test", "id": row["id"], "prompt": row["prompt"], **answer, "passed": None}
        )
    return metrics, responses
