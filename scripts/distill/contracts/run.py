"""A run: one student, one row of the runs table; and names that stages share."""

from dataclasses import dataclass

AT_ONCE = 128
"""Prompts answered at once where nothing else is said."""
RAW, NO_CACHE, UNTRAINED = "raw", "none", "none"
LIVE = "live"
"""In place of a cache: the teacher itself, which training asks."""


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
        """Its directory below `results/<study>/students`."""
        return (
            f"{self.student}/{self.teacher}/{self.method}/{self.curation}/{self.cache}/"
            f"draw{self.draw}-seed{self.seed}/n{self.samples}"
        )

    @property
    def cached(self) -> str:
        """The cache in its shard: that of text alone has none, and serves a live teacher too."""
        return NO_CACHE if self.cache == LIVE else self.cache


MAGPIE = "magpie"
