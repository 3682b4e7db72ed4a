"""How processes share the rows of an epoch."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler

from distill.training.batch_sharing import Share, blank, shared_loader


def batched(each: Iterable[Any], size: int) -> Iterator[list[Any]]:
    left = iter(each)
    while batch := list(islice(left, size)):
        yield batch


@pytest.mark.parametrize("rows", [1, 3, 8, 13, 16])
@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("size", [1, 2])
def test_an_update_takes_the_rows_that_one_process_would_take(
    rows: int, processes: int, size: int
) -> None:
    accumulated = 2
    order = SeedableRandomSampler(range(rows), data_seed=7)
    shares = [Share(order, size, processes, rank) for rank in range(processes)]
    for epoch in range(2):
        order.set_epoch(epoch)
        alone = list(order)
        each = []
        for share in shares:
            share.batch_sampler.set_epoch(epoch)
            each.append(list(share))
            assert len(each[-1]) == len(share)
        assert sorted(row for own in each for batch in own for row in batch) == list(range(rows))
        updates = [list(batched(own, accumulated)) for own in each]
        for number, expected in enumerate(batched(alone, size * processes * accumulated)):
            taken = [row for own in updates for batch in own[number] for row in batch]
            assert sorted(taken) == sorted(expected)
        assert len({len(own) for own in each}) == 1


def test_a_process_without_rows_gets_a_batch_of_the_same_form() -> None:
    def collate(rows: Sequence[int]) -> dict[str, torch.Tensor]:
        ids = torch.tensor([[row, row] for row in rows])
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "shift_labels": ids.clone(),
            "soft_mask": torch.ones_like(ids, dtype=torch.bool),
            "states": torch.ones(2 * len(rows), 4),
        }

    loaders = [shared_loader([5, 6, 7], Share(range(3), 2, 2, rank), collate) for rank in (0, 1)]
    assert [batch["input_ids"].tolist() for batch in loaders[1]] == [[[7, 7]]]
    alone = shared_loader([5], Share(range(1), 2, 2, 1), collate)
    (empty,) = alone
    assert empty["input_ids"].tolist() == [[5, 5]]
    assert empty["attention_mask"].all()
    assert (empty["shift_labels"] == -100).all()
    assert not empty["soft_mask"].any()
    assert empty["states"].shape == (0, 4)
    assert blank({"items": [3]}) == {"items": []}
