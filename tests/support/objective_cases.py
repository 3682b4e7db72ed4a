"""Shared makers of tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from distill.models.decoding import Decoding
from distill.models.heads import OutputHead, hidden_states, state_bytes, teacher_log_q
from distill.models.rows import Example
from distill.targets.encoding import encode_targets
from distill.targets.format import scheme_of
from distill.targets.layers import encode_layers
from distill.training.batches import Item, TargetReader
from distill.training.objective import Objective
from plain_divergences import plain_divergence

VOCABULARY, WIDTH, EOS = 41, 12, 0


LENGTHS = ((3, 5), (1, 2), (4, 9))  # of prompt and answer, per row


@dataclass
class Case:
    """Three rows of a batch, their targets, and a student's random output."""

    objective: Objective
    reader: TargetReader
    items: list[Item]
    batch: dict[str, Any]
    logits: torch.Tensor
    states: list[torch.Tensor]

    def run(self) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """The loss, its terms, and the gradient with respect to all logits."""
        full = self.logits.clone().requires_grad_()
        keep = self.objective.logit_positions(self.batch)
        counts = self.objective.counts([self.batch])
        loss, terms = self.objective(full[keep], None, None, self.batch, counts)
        loss.backward()
        assert full.grad is not None
        return loss.detach(), terms, full.grad


def head_of_size(vocabulary: int, seed: int = 5) -> OutputHead:
    generator = torch.Generator().manual_seed(seed)
    return OutputHead(torch.randn(vocabulary, WIDTH, generator=generator) / 2, None, 0.0, 1.0)


def case(
    method: dict[str, Any],
    cache: dict[str, Any],
    student_vocabulary: int = VOCABULARY,
    layers: int = 0,
    excluded: Sequence[int] = (),
) -> Case:
    """Rows whose answers end with EOS, which is the pad token too. Ids that are `excluded` have no
    token in the teacher's tokenizer, and none is in a row."""
    generator = torch.Generator().manual_seed(3)
    head = head_of_size(VOCABULARY)
    head.excluded = list(excluded)
    tokens = torch.tensor([number for number in range(VOCABULARY) if number not in excluded])
    scorer = cache["scorers"][0]
    decoding = Decoding(scorer["temperature"], scorer["top_k"], scorer["top_p"])
    items = []
    for number, (prompt, answer) in enumerate(LENGTHS):
        places = torch.randint(1, len(tokens), (prompt + answer,), generator=generator)
        ids = tokens[places].tolist()
        ids[-1] = EOS
        scored = prompt + answer - 1 if cache["tokens"] == "all" else answer
        states = torch.randn(scored, WIDTH, generator=generator)
        row: dict[str, Any] = {
            "prompt_ids": ids[:prompt], "response_ids": ids[prompt:], "target_tokens": scored,
            "hidden": state_bytes(states),
        }  # fmt: skip
        if cache["scheme"] != "final_hidden":
            logs = teacher_log_q(head, hidden_states(row.pop("hidden"), WIDTH), decoding)
            row |= encode_targets(logs, scheme_of(cache), f"row-{number}")
        if layers:
            kept = torch.randn(scored, layers, 7, generator=generator)
            row |= encode_layers(kept, cache["hidden"]["bits"])
        items.append(Item(Example(ids[:prompt], ids[prompt:]), row))
    reader = TargetReader(method, cache, VOCABULARY, WIDTH)
    batch = reader.collate(items, EOS)
    shape = (*batch["input_ids"].shape, student_vocabulary)
    logits = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    hidden = torch.randn((4, *shape[:2], 5), generator=generator, dtype=torch.float64)
    objective = Objective(method, cache, head)
    objective.excluded = list(excluded)
    return Case(objective, reader, items, batch, logits, list(hidden))


def softmax(scores: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    return torch.softmax(scores / temperature, -1)


def divergence(
    name: str, p: torch.Tensor, s: torch.Tensor, method: Mapping[str, Any]
) -> torch.Tensor:
    """A divergence or ULD of two distributions over classes, p > 0 where it matters."""
    if name != "uld":
        return plain_divergence(name, p, s, method)
    return (p.sort(descending=True).values - s.sort(descending=True).values).abs().sum()
