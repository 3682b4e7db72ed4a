"""Share of an epoch or of held-out rows that each process reads: each row once.

An update has the same rows as with one process. The library's split would repeat the first rows
if rows do not divide evenly.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

_KEPT = ("input_ids", "attention_mask")


class Share(Sampler[list[int]]):
    """The batches of one process: every `processes`-th batch of the single-process order.

    All processes have as many batches, so that none waits for another that has ended; without
    rows left a batch is empty.

    Args:
        order: Numbers of all rows; a sampler with `set_epoch` or a range.
        size: Rows per batch.
        processes: How many share the rows.
        rank: Which of them this is.
    """

    def __init__(self, order: Any, size: int, processes: int, rank: int) -> None:
        self.order, self.size, self.processes, self.rank = order, size, processes, rank

    @property
    def batch_sampler(self) -> "Share":
        """The object on which the library calls `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Which order of the rows."""
        self.order.set_epoch(epoch)

    def __len__(self) -> int:
        rows: Sized = self.order
        return math.ceil(len(rows) / (self.size * self.processes))

    def __iter__(self) -> Iterator[list[int]]:
        rows = iter(self.order)
        while update_rows := list(islice(rows, self.size * self.processes)):
            yield update_rows[self.rank * self.size : (self.rank + 1) * self.size]


def shared_loader(
    rows: Sequence[Any], share: Share, collate: Callable[[Sequence[Any]], Any]
) -> DataLoader[Any]:
    """The batches of one process; an empty one has the form of the others."""
    return DataLoader(
        rows,
        batch_sampler=share,
        collate_fn=lambda batch: collate(batch) if batch else blank(collate(rows[:1])),
    )


def blank(batch: Mapping[str, Any]) -> dict[str, Any]:
    """A batch of the same form without targets."""
    if "items" in batch:  # not collated so far
        return {"items": []}
    nothing = {
        "shift_labels": lambda value: torch.full_like(value, -100),
        "soft_mask": torch.zeros_like,
    }
    return {
        name: value if name in _KEPT else nothing.get(name, lambda value: value[:0])(value)
        for name, value in batch.items()
    }
