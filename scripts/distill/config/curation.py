"""The config's sections of curations: filters of rows, and corruption."""

import math
from typing import Annotated, Literal

from pydantic import Field
from pydantic import model_validator as checked

from distill.config.values import NotNegative, Positive, Probability, Section

_CODES = (
    "af am an ar as az be bg bn br bs ca cs cy da de dz el en eo es et eu fa fi fo fr ga gl gu he "
    "hi hr ht hu hy id is it ja jv ka kk km kn ko ku ky la lb lo lt lv mg mk ml mn mr ms mt nb ne "
    "nl nn no oc or pa pl ps pt qu ro ru rw se si sk sl sq sr sv sw ta te th tl tr ug uk ur vi vo "
    "wa xh zh zu"
)
LANGUAGES = _CODES.split()
"""ISO 639-1 codes that py3langid distinguishes."""


class LengthFilter(Section):
    """Keep answers by their length and by whether they ended."""

    min_tokens: Positive | None = Field(None, description="Shortest answer, counting its end token")
    max_tokens: Positive | None = Field(None, description="Longest answer, counting its end token")
    finished: bool = Field(
        False, description="Keep only answers that ended before the teacher's max_tokens"
    )

    @checked(mode="after")
    def _some_bound(self) -> "LengthFilter":
        low, high = self.min_tokens or 1, self.max_tokens
        if not (self.min_tokens or high or self.finished):
            raise ValueError("give min_tokens, max_tokens or finished: true")
        if high is not None and low > high:
            raise ValueError("min_tokens must not exceed max_tokens")
        return self


class LanguageFilter(Section):
    """Keep answers in the listed languages, as py3langid (Lui 2012) identifies them."""

    keep: list[str] = Field(min_length=1, description="ISO 639-1 codes, e.g. [en]")
    min_probability: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0,
        description="Smallest probability of the most likely language; answers without words get about 0.17",
    )

    @checked(mode="after")
    def _known(self) -> "LanguageFilter":
        if unknown := [code for code in self.keep if code not in LANGUAGES]:
            raise ValueError(f"{unknown[0]!r} is not a known language; use {', '.join(LANGUAGES)}")
        return self


class LossFilter(Section):
    """Keep answers by the teacher's mean loss on them, nats per token at its temperature."""

    min_quantile: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Drop answers below this quantile of the pool's first part; 0: none"
    )
    max_quantile: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="Drop answers above this quantile of the pool's first part; 1: none"
    )

    @checked(mode="after")
    def _ordered(self) -> "LossFilter":
        if not self.min_quantile < self.max_quantile or self.share == 1:
            raise ValueError(
                "min_quantile must be below max_quantile, and at least one of them must differ from its default"
            )
        return self

    @property
    def share(self) -> float:
        """The share of answers that the filter keeps."""
        return self.max_quantile - self.min_quantile


class DuplicateFilter(Section):
    """Drop answers that are near-duplicates of an answer kept before (MinHash LSH, then exactly)."""

    threshold: Probability = Field(
        0.7,
        description="Two answers are near-duplicates from this Jaccard similarity of their 5-character shingles",
    )


class Corruption(Section):
    """Corrupt a share of the kept answers. A row is corrupted at every size and draw, or at none."""

    share: Probability = Field(
        description="Expected share; a larger share corrupts the same answers and more"
    )
    kind: Literal["shuffle_words", "replace_response"] = Field(
        description="`shuffle_words`: permute the answer's words; `replace_response`: use the answer to another prompt from the pool's first part"
    )
    seed: NotNegative = Field(0, description="Seed of the choice of answers and of the corruption")


class Curation(Section):
    """Which answers students train on: filters, in the order of the keys below, then corruption.
    The decision on a row depends only on the row, on earlier rows of the draw and on constants of
    the pool's first part. Hence n kept rows are a prefix of any larger number of kept rows."""

    surplus: Annotated[float, Field(ge=1, le=100)] = Field(
        1.5, description="Teacher answers generated per kept row, for curations with a filter"
    )
    length: LengthFilter | None = Field(None, description="Filter by length")
    language: LanguageFilter | None = Field(None, description="Filter by language")
    teacher_loss: LossFilter | None = Field(None, description="Filter by the teacher's loss")
    near_duplicates: DuplicateFilter | None = Field(
        None, description="Filter near-duplicates of earlier answers"
    )
    corrupt: Corruption | None = Field(
        None, description="Corrupt a share of the answers, to measure the effect of noise"
    )

    @checked(mode="after")
    def _consistent(self) -> "Curation":
        if not (self.filters or self.corrupt):
            raise ValueError(f"give at least one of {', '.join(FILTERS)} and corrupt")
        if self.teacher_loss and self.surplus * self.teacher_loss.share < 1 - 1e-9:
            raise ValueError(
                f"teacher_loss keeps {self.teacher_loss.share:.3g} of the rows, so surplus must be "
                f"at least {1 / self.teacher_loss.share:.3g}; raise it"
            )
        return self

    @property
    def filters(self) -> list[str]:
        """The names of the filters that are set, in the order in which they act."""
        return [name for name in FILTERS if getattr(self, name) is not None]

    def candidates(self, samples: int) -> int:
        """Number of pool rows from which `samples` rows are kept."""
        return math.ceil(samples * self.surplus) if self.filters else samples


FILTERS = ("length", "language", "teacher_loss", "near_duplicates")
