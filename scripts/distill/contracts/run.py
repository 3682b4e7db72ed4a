"""A run (one student, one row of the runs table), and names that stages share."""

from dataclasses import dataclass

AT_ONCE = 128
"""Default number of prompts per batch of answers."""
RAW, NO_CACHE, UNTRAINED = "raw", "none", "none"
LIVE = "live"
"""Stands for a cache: the teacher runs during training."""


@dataclass(frozen=True, order=True)
class Run:
    """One student: one row of the runs table. `samples` 0 is the student before training."""

    student: str
    teacher: str
    method: str
    curation: str
    cache: str
    samples: int
    draw: int
    seed: int

    @property
    def folder(self) -> str:
        """The run's folder below `results/<study>/students`."""
        return (
            f"{self.student}/{self.teacher}/{self.method}/{self.curation}/{self.cache}/"
            f"draw{self.draw}-seed{self.seed}/n{self.samples}"
        )

    @property
    def cached(self) -> str:
        """The cache in the run's shard; a run with a live teacher reads a shard without cache."""
        return NO_CACHE if self.cache == LIVE else self.cache


MAGPIE = "magpie"
