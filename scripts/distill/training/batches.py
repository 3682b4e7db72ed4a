"""Rows and stored soft targets as tensors of a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from distill.contracts.divergences import DIVERGENCES
from distill.models.encoding import collate
from distill.models.heads import hidden_states
from distill.models.rows import Example, drawn_tokens
from distill.targets.format import Targets, decode_targets, scheme_of
from distill.targets.layers import decode_layers
from distill.training.spans import Spans

LAST = "last"
"""A student's last layer, in a method that serves students of several depths."""


@dataclass(frozen=True)
class Item:
    """One training example and, where the method reads soft targets, its row of the shard; where
    it reads them across tokenizers by spans, how both tokenisations of the answer align."""

    example: Example
    row: Mapping[str, Any] | None = None
    spans: Spans | None = None


class TargetReader:
    """Reads a batch's soft targets from the rows of a shard.

    Args:
        method: The method's settings.
        cache: The cache's spec, as stored in the shard.
        vocabulary: Width of the cached distribution (any number for final_hidden).
        width: Width of the teacher's final hidden states (final_hidden).
    """

    def __init__(
        self, method: Mapping[str, Any], cache: Mapping[str, Any], vocabulary: int, width: int
    ) -> None:
        self.method, self.cache = method, cache
        self.vocabulary, self.width = vocabulary, width

    def positions(self, item: Item) -> tuple[Sequence[int], range]:
        """Positions of the student's tokens with soft targets, and of the targets in the cache.

        Across tokenizers the i-th answer token of one is taken with the i-th of the other, as far
        as both go (ULD, Boizard 2024), or all tokens of common spans, from the first to the last.
        In a masked chunk they are the masked positions.
        """
        assert item.row is not None
        if item.example.positions is not None:
            return item.example.positions, range(len(item.example.answer))
        prompt, answer = len(item.example.prompt), len(item.example.answer)
        start = len(item.row["prompt_ids"]) - 1 if self.cache["tokens"] == "all" else 0
        if item.spans is not None:
            student_count, teacher_count = len(item.spans.student), len(item.spans.teacher)
            return range(prompt - 1, prompt - 1 + student_count), range(
                start, start + teacher_count
            )
        if self.method["uld"] > 0:
            length = min(answer, len(item.row["response_ids"]))
            return range(prompt - 1, prompt - 1 + length), range(start, start + length)
        if self.method["tokens"] == "all":
            return range(prompt + answer - 1), range(prompt + answer - 1)
        return range(prompt - 1, prompt + answer - 1), range(start, start + answer)

    def collate(self, items: Sequence[Item], pad: int) -> dict[str, Any]:
        """A padded batch with `soft_mask` [batch, length] and the targets at its True positions.

        Targets lie one after another, row by row: `states` bf16 [tokens, width] for final_hidden,
        with `drawn` [tokens] where the teacher drew the text from a cut distribution (see
        `distill.models.decoding.log_q`);
        else `ids` and `p` [tokens, k], `entropy` [tokens] and for top_k_tail `tail` [tokens];
        `layers` [tokens, layers, width] where the method matches layers. By spans, targets are of
        the teacher's tokens: `own_spans` and `their_spans` number the span of each token on either
        side, `their_ids` are the teacher's tokens, and `single` [spans] is `Spans.single`.
        """
        batch: dict[str, Any] = collate([item.example for item in items], pad)
        mask = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
        states, layers, decoded, drawn = [], [], [], list[int]()
        for number, item in enumerate(items):
            assert item.row is not None
            where, targets_at = self.positions(item)
            mask[number, list(where)] = True
            part = slice(targets_at.start, targets_at.stop)
            if self.cache["scheme"] == "final_hidden":
                states.append(hidden_states(item.row["hidden"], self.width)[part])
                if self.cache["scorers"][0].get("drawn"):
                    drawn += drawn_tokens(item.row, self.cache["tokens"])[part]
            elif soft_losses(self.method):
                targets = decode_targets(
                    item.row, scheme_of(self.cache), self.vocabulary, self.method["temperature"]
                )
                decoded.append((targets, part))
            if self.method["hidden"]:
                layer_settings = self.cache["hidden"]
                layers.append(
                    decode_layers(item.row, len(layer_settings["layers"]), layer_settings["bits"])[
                        part
                    ]
                )
        batch["soft_mask"] = mask
        if self.method.get("spans", 0) > 0:
            batch |= _numbered(items)
        if states:
            batch["states"] = torch.cat(states)
        if drawn:
            batch["drawn"] = torch.tensor(drawn)
        if decoded:
            batch |= _packed(decoded)
        if layers:
            batch["layers"] = torch.cat(layers)
        return batch


def _numbered(items: Sequence[Item]) -> dict[str, torch.Tensor]:
    """The spans of several rows, numbered one after another."""
    student_spans, teacher_spans, ids = list[int](), list[int](), list[int]()
    single = list[bool]()
    for item in items:
        assert item.row is not None
        assert item.spans is not None
        first = len(single)
        student_spans += [first + span for span in item.spans.student]
        teacher_spans += [first + span for span in item.spans.teacher]
        ids += list(item.row["response_ids"])[: len(item.spans.teacher)]
        single += item.spans.single
    numbered = {"own_spans": student_spans, "their_spans": teacher_spans, "their_ids": ids}
    tensors = {name: torch.tensor(values, dtype=torch.long) for name, values in numbered.items()}
    return tensors | {"single": torch.tensor(single, dtype=torch.bool)}


def _packed(decoded: Sequence[tuple[Targets, slice]]) -> dict[str, torch.Tensor]:
    """Targets of several rows one after another, padded to the widest token."""
    widest = max(targets.ids.shape[1] for targets, _ in decoded)

    def wide(array: np.ndarray) -> np.ndarray:
        return np.pad(array, ((0, 0), (0, widest - array.shape[1])))

    packed = {
        "ids": np.concatenate([wide(targets.ids[part]) for targets, part in decoded]),
        "p": np.concatenate([wide(targets.p[part]) for targets, part in decoded]),
        "entropy": np.concatenate([targets.entropy[part] for targets, part in decoded]),
    }
    if decoded[0][0].tail is not None:
        tails = [targets.tail[part] for targets, part in decoded if targets.tail is not None]
        packed["tail"] = np.concatenate(tails)
    return {name: torch.from_numpy(array) for name, array in packed.items()}


def soft_losses(method: Mapping[str, Any]) -> list[str]:
    """The method's losses on the teacher's distribution, in a fixed order."""
    names = (*DIVERGENCES, "uld", "spans")
    return [name for name in names if method.get(name, 0) > 0]  # spans stands only where it is used
