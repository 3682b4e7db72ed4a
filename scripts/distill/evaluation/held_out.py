"""Evaluate a model on held-out teacher text and on a reference text.

The probabilities of an evaluated model are the softmax of all its logits, as any program that opens
it computes. Probability on ids without a token is an error of the model, which its loss and
KL(q || model) count: q gives these ids none (see `distill.models.decoding`).
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tqdm import tqdm

from distill.core.errors import UserError
from distill.models.decoding import Decoding, log_q
from distill.models.drawing import likeliest
from distill.models.encoding import collate, encode_rows
from distill.models.formatting import control_tokens, encode_plain
from distill.models.forward import chunk_rows, run_model
from distill.models.heads import OutputHead, hidden_states
from distill.models.rows import Example, read_ids
from distill.models.vocabulary import Vocabulary
from distill.stats.tokens import (
    expected_calibration_error,
    token_mean,
    unigram_entropy,
    unigram_loss,
)

_MOST_NATS = 700.0
"""Nats per token above which the perplexity exceeds what float64 holds."""


def _by_length(examples: Sequence[Example], size: int) -> list[list[int]]:
    """Batches of example numbers of similar length, longest first."""
    lengths = [len(example.tokens) for example in examples]
    order = sorted(range(len(examples)), key=lambda number: (-lengths[number], number))
    return [order[start : start + size] for start in range(0, len(order), size)]


def _score_rows(
    logits: torch.Tensor,
    targets: torch.Tensor,
    teacher: torch.Tensor | None,
    decoding: Decoding | None,
    room: torch.Tensor,
    vocabulary: Vocabulary | None = None,
    drawn: bool = False,
    temperature: float = 1.0,
) -> dict[str, torch.Tensor]:
    """Score the distributions over a few tokens, in few passes over memory that stays in cache.

    Args:
        logits: The evaluated model's, [rows, vocabulary].
        targets: int64 [rows, 1].
        teacher: The teacher's logits [rows, its vocabulary], or None.
        decoding: The teacher's sampling distribution q, or None.
        room: float32 to work in, [3, at least rows, the larger vocabulary].
        vocabulary: The evaluated model's, where it is trimmed.
        drawn: Whether the targets were drawn from q.
        temperature: Of the evaluated model.

    Returns:
        [rows] each: nats, confidence, correct and, with a teacher, teacher_nats, kl and agree;
        and floor, where the vocabulary is trimmed.
    """
    rows, width = logits.shape
    student = room[0, :rows, :width].copy_(logits)
    if temperature != 1:
        student.sub_(student.amax(-1, keepdim=True)).div_(temperature)
    best = likeliest(student).unsqueeze(1)
    confidence = torch.softmax(student, -1, out=room[1, :rows, :width]).gather(1, best)
    log_mass = student.gather(1, best) - confidence.log()  # log of the sum of exponentials
    scores = {
        "nats": log_mass - student.gather(1, targets),
        "confidence": confidence,
        "correct": best == targets,
    }
    if teacher is not None and decoding is not None:
        scaled = room[2, :rows, : teacher.shape[1]]
        if decoding.cuts:
            scaled.copy_(log_q(teacher, decoding, targets.squeeze(1) if drawn else None))
        else:
            scaled.copy_(teacher)
            if decoding.temperature != 1:
                # From the largest down: a small temperature would leave it no digits.
                scaled.sub_(scaled.amax(-1, keepdim=True)).div_(decoding.temperature)
        q = torch.softmax(scaled, -1, out=room[1, :rows, : teacher.shape[1]])
        their_log_mass = scaled.amax(-1, keepdim=True) - q.amax(-1, keepdim=True).log()
        scores["teacher_nats"] = their_log_mass - scaled.gather(1, targets)
        # Heads padded to different widths: q is 0 at the ids that only one has.
        shared = min(width, teacher.shape[1])
        q, scaled, student = q[:, :shared], scaled[:, :shared], student[:, :shared]
        mine = best if shared == width else likeliest(student).unsqueeze(1)
        scores["agree"] = likeliest(scaled).unsqueeze(1) == mine
        if vocabulary is not None:
            scores["floor"] = vocabulary.floor(q, scaled - their_log_mass).unsqueeze(1)
        log_ratio = scaled.sub_(student).add_(log_mass - their_log_mass)
        # Where q is 0 (a cut tail, an id without a token), log q is -inf and the term is 0.
        scores["kl"] = q.mul_(log_ratio.clamp_min_(-1e9)).sum(-1, keepdim=True)
    return {name: column.squeeze(1) for name, column in scores.items()}


def _score_tokens(
    logits: torch.Tensor,
    targets: torch.Tensor,
    states: torch.Tensor | None,
    head: OutputHead | None,
    decoding: Decoding | None,
    vocabulary: Vocabulary | None,
    drawn: bool,
    temperature: float,
) -> dict[str, torch.Tensor]:
    """The columns of `_score_rows` for all tokens of a batch, a block of them at a time.

    Args:
        logits: The evaluated model's, [tokens, vocabulary].
        targets: int64 [tokens].
        states: The teacher's final hidden states [tokens, width], or None.
        head, decoding, vocabulary, drawn, temperature: As of `score_examples`.
    """
    names = ["nats", "confidence", "correct"]
    if states is not None and head is not None and decoding is not None:
        names += ["teacher_nats", "kl", "agree", "floor"]
    columns = {name: torch.zeros(len(targets), device=logits.device) for name in names}
    size = 2 * chunk_rows(logits)
    for first in range(0, len(targets), 512):  # the head is fast on many rows, the softmax on few
        last = min(first + 512, len(targets))
        theirs = None
        if states is not None and head is not None:
            theirs = head.logits(states[first:last].to(logits.device))
        widest = max(logits.shape[1], 0 if theirs is None else theirs.shape[1])
        room = logits.new_empty(3, min(size, 512), widest, dtype=torch.float32)
        for start in range(first, last, size):
            part = slice(start, min(start + size, last))
            near = None if theirs is None else theirs[start - first : part.stop - first]
            scores = _score_rows(
                logits[part],
                targets[part, None],
                near,
                decoding,
                room,
                vocabulary,
                drawn,
                temperature,
            )
            for name, column in scores.items():
                columns[name][part] = column
    return columns


@torch.inference_mode()
def score_examples(
    model: Any,
    examples: Sequence[Example],
    pad: int,
    batch_size: int,
    teacher: Sequence[torch.Tensor] | None = None,
    head: OutputHead | None = None,
    decoding: Decoding | None = None,
    vocabulary: Vocabulary | None = None,
    drawn: bool = False,
    temperature: float = 1.0,
) -> list[dict[str, Any]]:
    """Score each example's answer tokens.

    Args:
        model: The evaluated model, in eval mode.
        examples: Token ids in its vocabulary.
        pad: Any valid token id.
        batch_size: Examples per forward pass.
        teacher: Per example, the teacher's final hidden states [answer tokens, width]; None where
            the vocabularies differ or there is no model behind the text.
        head: The teacher's output head.
        decoding: The teacher's sampling distribution q.
        vocabulary: The model's, where it is trimmed (and saved with the full one).
        drawn: Whether the answers were drawn from q, which rounding must then not put outside its
            top-k or top-p set (see `distill.models.decoding.log_q`).
        temperature: Of the evaluated model: 1 for a student; a teacher is its sampling
            distribution.

    Returns:
        Per example the sums tokens, nats (cross-entropy) and, with a teacher, teacher_nats (-log q
        of the text's tokens), kl (KL(q || model), nats), agree (tokens at which both find the
        same token most likely) and floor (the least KL that a trimmed vocabulary allows; 0 for a
        whole one); and per token confidence, the probability of the model's most
        likely token, and correct, whether that is the token in the text.

    Raises:
        UserError: The loss is NaN, infinite, or too large for a perplexity.
    """
    results: list[dict[str, Any]] = [{} for _ in examples]
    for batch in tqdm(_by_length(examples, batch_size), desc="scoring", mininterval=5, leave=False):
        chosen = [examples[number] for number in batch]
        inputs = {key: value.to(model.device) for key, value in collate(chosen, pad).items()}
        keep = inputs["shift_labels"] != -100
        arguments = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        logits = run_model(model, keep, **arguments).logits
        targets = inputs["shift_labels"][keep]
        states = None if teacher is None else torch.cat([teacher[number] for number in batch])
        columns = _score_tokens(
            logits, targets, states, head, decoding, vocabulary, drawn, temperature
        )
        ends = torch.cumsum(keep.sum(1), 0).tolist()
        for place, number in enumerate(batch):
            part = slice(ends[place - 1] if place else 0, ends[place])
            sums = {
                name: float(column[part].double().sum())
                for name, column in columns.items()
                if name not in ("confidence", "correct")
            }
            results[number] = {
                "tokens": part.stop - part.start,
                **sums,
                "confidence": columns["confidence"][part].tolist(),
                "correct": columns["correct"][part].bool().tolist(),
            }
    nats, tokens = sum(item["nats"] for item in results), sum(item["tokens"] for item in results)
    if not nats <= _MOST_NATS * tokens:
        raise UserError(
            f"{getattr(model, 'name_or_path', '') or 'the model'} has a loss of "
            f"{nats / max(tokens, 1):.3g} nats per token, whose perplexity is not finite: its "
            "training diverged (lower train.learning_rate), or weights or precision are at fault"
        )
    return results


def held_out_metrics(
    scored: Sequence[dict[str, Any]],
    examples: Sequence[Example],
    answer_bytes: int | None,
    trained: Mapping[int, int],
    own_text: bool = True,
    teacher_nats: Sequence[float] | None = None,
    size: int | None = None,
) -> dict[str, Any]:
    """Metrics on the teacher's held-out text.

    Args:
        scored: From `score_examples`.
        examples: The same examples.
        answer_bytes: UTF-8 bytes of the text that the scored tokens cover; the nats of EOS are in
            the loss, so they count in bits per byte too. None where only some tokens are scored,
            given all others (a masked text): no code has that length.
        trained: How often each token id was a target in the training set.
        own_text: Whether the text was drawn from the teacher's q, so that the identity holds.
        teacher_nats: Per example -log q of its tokens, where a server reports no more of q.
        size: Number of the vocabulary's tokens; None of a model that this study does not train.

    Returns:
        loss (nats per token), loss_stderr (over prompts), perplexity, bits_per_byte, ece and
        ece_bins (see `expected_calibration_error`; every token of the text is one prediction),
        unseen_token_share, unigram_entropy (of the held-out text itself), unigram_loss (of the
        frequencies of the training text, see `unigram_loss`) and, with a teacher, loss_teacher,
        kl_teacher, kl_stderr, kl_floor, top1_agreement and identity: loss - loss_teacher -
        kl_teacher, which is 0 in expectation, with its paired standard error.
    """
    tokens = [int(item["tokens"]) for item in scored]
    nats = [item["nats"] for item in scored]
    loss, stderr = token_mean(nats, tokens)
    flat = [token for example in examples for token in example.answer]
    counts: dict[int, int] = {}
    for token in flat:
        counts[token] = counts.get(token, 0) + 1
    unseen = sum(count for token, count in counts.items() if token not in trained)
    calibration = expected_calibration_error(
        [value for item in scored for value in item["confidence"]],
        [value for item in scored for value in item["correct"]],
    )
    metrics: dict[str, Any] = {
        "prompts": len(scored),
        "tokens": sum(tokens),
        "loss": loss,
        "loss_stderr": stderr,
        "perplexity": math.exp(loss),
        "bits_per_byte": sum(nats) / math.log(2) / answer_bytes if answer_bytes else None,
        "ece": calibration["ece"],
        "ece_bins": calibration["bins"],
        "unseen_token_share": unseen / len(flat),
        "unigram_entropy": unigram_entropy(list(counts.values())),
        "unigram_loss": unigram_loss(trained, counts, size) if size and trained else None,
        "loss_teacher": None,
        "kl_teacher": None,
        "kl_stderr": None,
        "kl_floor": None,
        "top1_agreement": None,
        "identity": None,
    }
    if teacher_nats is not None:
        metrics["loss_teacher"] = token_mean(teacher_nats, tokens)[0]
    if scored and "kl" in scored[0]:
        teacher_sums = [item["teacher_nats"] for item in scored]
        kl = [item["kl"] for item in scored]
        rest = [mine - yours - gap for mine, yours, gap in zip(nats, teacher_sums, kl, strict=True)]
        difference, error = token_mean(rest, tokens)
        metrics["loss_teacher"] = token_mean(teacher_sums, tokens)[0]
        metrics["kl_teacher"], metrics["kl_stderr"] = token_mean(kl, tokens)
        metrics["kl_floor"] = token_mean([item["floor"] for item in scored], tokens)[0]
        metrics["top1_agreement"] = sum(item["agree"] for item in scored) / sum(tokens)
        if own_text:
            metrics["identity"] = {
                "difference": difference,
                "stderr": error,
                "z": difference / error if error > 0 else 0.0,
            }
    return metrics


NO_REFERENCE = {**dict.fromkeys(("loss", "loss_stderr", "bits_per_byte")), "passages": 0}
"""Metrics on the reference text of a study without one."""


def reference_metrics(
    model: Any, tokenizer: Any, passages: Sequence[str], max_tokens: int, batch_size: int
) -> dict[str, Any]:
    """Loss and bits per byte on a text that no teacher of the study wrote.

    Each passage is scored separately, after BOS where the tokenizer has one (else its first token
    is not scored), and is cut to `max_tokens`; no EOS is scored.

    Returns:
        loss and loss_stderr (nats per token), bits_per_byte, passages and tokens.
    """
    examples, covered, controls = [], 0, control_tokens(tokenizer)
    for passage in passages:
        ids = encode_plain(tokenizer, passage, controls)[:max_tokens]
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


def held_out(
    model: Any,
    tokenizer: Any,
    rows: Sequence[dict[str, Any]],
    states: Sequence[dict[str, Any]],
    head: OutputHead | None,
    text_tokenizer: str | None,
    trained: Mapping[int, int],
    spec: dict[str, Any],
    vocabulary: Vocabulary | None = None,
    served_nats: Sequence[float] = (),
    is_teacher: bool = False,
) -> dict[str, Any]:
    """Metrics on held-out text; see `held_out_metrics`.

    Args:
        model: The model in eval mode.
        tokenizer: Its tokenizer.
        rows: The teacher's held-out text, or held-out chunks of a corpus.
        states: The teacher's final hidden states on it, empty without a teacher model.
        head: The teacher's output head, None without a teacher model.
        text_tokenizer: Digest of the text's tokenizer.
        trained: How often each token id was a target in the training set.
        spec: formatting, batch_size, and with a teacher model distribution and written.
        vocabulary: The model's, where it is trimmed (and saved with the full one).
        served_nats: Per row the teacher's -log q of its answer, where its server said so.
        is_teacher: Whether the model is the teacher, which is evaluated at the temperature that it
            writes at: its loss is then the least that a student can have.
    """
    length = model.config.max_position_embeddings
    limit = f"the context of {model.name_or_path}"
    examples = encode_rows(rows, tokenizer, spec["formatting"], text_tokenizer, length, limit)
    drawn = [read_ids(row) for row in rows]
    shared = all(example.tokens == ids for example, ids in zip(examples, drawn, strict=True))
    decoding = None
    hidden: list[torch.Tensor] | None = None
    if shared and head is not None and states:
        decoding = Decoding(**spec["distribution"])
        width = head.weight.shape[1]
        hidden = [hidden_states(row["hidden"], width, row["tokens"]) for row in states]
    logging.info("scoring %d held-out rows", len(examples))
    scored = score_examples(
        model,
        examples,
        tokenizer.pad_token_id,
        spec["batch_size"],
        hidden,
        head,
        decoding,
        vocabulary,
        spec.get("written", False),
        spec["distribution"]["temperature"] if is_teacher and "distribution" in spec else 1.0,
    )
    masked = any(example.positions is not None for example in examples)
    covered = None if masked else sum(len(row["response"].encode()) for row in rows)
    return held_out_metrics(
        scored,
        examples,
        covered,
        trained,
        size=len(tokenizer),
        own_text=spec.get("written", False),
        teacher_nats=served_nats if shared and served_nats else None,
    )
