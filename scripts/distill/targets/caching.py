"""Compute the soft targets of one part of a text from the teachers' hidden states."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from distill.contracts.costs import Cost, cost_of, sum_costs
from distill.core.errors import UserError
from distill.core.parquet import read_rows, write_rows
from distill.models.decoding import Decoding
from distill.models.heads import OutputHead, hidden_states, load_head, teacher_log_q
from distill.models.rows import drawn_tokens
from distill.runtime.device import device
from distill.runtime.meter import Meter
from distill.targets.encoding import encode_targets, mix_log_q
from distill.targets.format import scheme_of, target_schema

BLOCK = 512  # tokens per call of the head: 100 MB of log q with 49,152 ids


def decodings(spec: Mapping[str, Any]) -> list[Decoding]:
    """The sampling distribution of each teacher of a cache."""
    return [
        Decoding(entry["temperature"], entry["top_k"], entry["top_p"]) for entry in spec["scorers"]
    ]


def _blocks(counts: Sequence[int]) -> Iterator[range]:
    """Ranges of rows with about `BLOCK` tokens."""
    first, held = 0, 0
    for number, count in enumerate(counts):
        if held and held + count > BLOCK:
            yield range(first, number)
            first, held = number, 0
        held += count
    if counts:
        yield range(first, len(counts))


def _drawn(text: Sequence[dict[str, Any]], spec: Mapping[str, Any]) -> list[torch.Tensor]:
    """Per row the tokens drawn at its positions, int64 [tokens]."""
    return [torch.tensor(drawn_tokens(row, spec["tokens"]), dtype=torch.long) for row in text]


def width_and_holes(heads: Sequence[OutputHead]) -> tuple[int, list[int]]:
    """Width of the stored distributions: up to the last id that has a token, whatever rows pad the
    heads; and the ids below without a token."""
    tokens = set[int]()
    for head in heads:
        tokens |= set(range(len(head.weight))).difference(head.excluded)
    width = max(tokens) + 1
    return width, sorted(set(range(width)) - tokens)


def _mixed_log_q(
    states: Sequence[torch.Tensor],
    heads: Sequence[OutputHead],
    spec: Mapping[str, Any],
    drawn: torch.Tensor | None,
) -> torch.Tensor:
    """log q of the teachers' mixture, [tokens, widest vocabulary]."""
    each = [
        teacher_log_q(head, own, decoding, drawn if scorer.get("drawn") else None)
        for own, head, decoding, scorer in zip(
            states, heads, decodings(spec), spec["scorers"], strict=True
        )
    ]
    weights = [scorer["weight"] for scorer in spec["scorers"]]
    return each[0] if len(each) == 1 else mix_log_q(each, weights)


@torch.inference_mode()
def cache_targets(
    states: Sequence[Sequence[dict[str, Any]]],
    heads: Sequence[OutputHead],
    spec: dict[str, Any],
    text: Sequence[dict[str, Any]] = (),
) -> list[dict[str, Any]]:
    """Soft targets of one part of the text.

    Args:
        states: Per teacher, rows of `STATES_SCHEMA`, all in the same order.
        heads: Per teacher its output head.
        spec: The cache's spec: scheme and settings, scorers with distributions and weights.
        text: Rows of the text, where a scorer's `drawn` says that it drew their tokens: top-k and
            top-p then never exclude these.

    Returns:
        Rows of `target_schema`; their costs are those of the heads and of scoring, if any.

    Raises:
        UserError: The teachers' states are of different rows.
    """
    scheme = scheme_of(spec)
    names = [row["id"] for row in states[0]]
    if any([row["id"] for row in other] != names for other in [*states, text or states[0]]):
        raise UserError("the teachers of a cache scored different rows; delete their states")
    hidden = [
        [hidden_states(row["hidden"], head.weight.shape[1], row["tokens"]) for row in rows]
        for rows, head in zip(states, heads, strict=True)
    ]
    drawn = _drawn(text, spec)
    counts = [len(row_states) for row_states in hidden[0]]
    width = width_and_holes(heads)[0]
    head_flops = sum(2 * head.weight.numel() for head in heads)
    encoded: list[dict[str, Any]] = []
    meter = Meter()
    for block in tqdm(list(_blocks(counts)), desc="soft targets", mininterval=5, leave=False):
        states_of = [torch.cat([of_rows[number] for number in block]) for of_rows in hidden]
        tokens = torch.cat([drawn[number] for number in block]) if text else None
        logs = _mixed_log_q(states_of, heads, spec, tokens)[:, :width]
        start, first = 0, len(encoded)
        for number in block:
            row_logs = logs[start : start + counts[number]]
            start += counts[number]
            encoded.append(
                {
                    "id": names[number],
                    "tokens": counts[number],
                    **encode_targets(row_logs.cpu(), scheme, names[number]),
                }
            )
        share = meter.lap() / len(block)
        for row, number in zip(encoded[first:], block, strict=True):
            scoring = sum_costs(cost_of(rows[number]) for rows in states)
            row |= (Cost(head_flops * counts[number]) + scoring + share).columns()
    return encoded


def cache_part(
    states: Sequence[str | Path],
    heads: Sequence[str | Path],
    out: str | Path,
    spec: dict[str, Any],
    text: Sequence[str | Path] = (),
) -> None:
    """Compute the soft targets of one part of a text from its teachers' final hidden states.

    Args:
        states: Per teacher its states on the part.
        heads: Per teacher its output head.
        out: The part of the cache, rows of `target_schema`.
        spec: See `cache_targets`; stored in the part.
        text: The part of the text, if `cache_targets` needs it.

    Raises:
        UserError: See `cache_targets`.
    """
    opened = [load_head(path, device()) for path in heads]
    rows = cache_targets([read_rows(path) for path in states], opened, spec, read_rows(text))
    vocabulary, holes = width_and_holes(opened)
    marks = {"vocabulary": vocabulary, "excluded": holes}
    write_rows(out, rows, target_schema(scheme_of(spec)), spec=spec, **marks)
