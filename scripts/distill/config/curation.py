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
"""ISO 639-1 codes that py3langid tells apart."""


class LengthFilter(Section):
    """Keep answers by their length, and by whether they ended."""

    min_tokens: Positive | None = Field(None, description="Shortest answer, its end token included")
    max_tokens: Positive | None = Field(None, description="Longest answer, its end token included")
    finished: bool = Field(
        False, description="Keep only answers that ended, none cut by the teacher's max_tokens"
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
    """Keep answers in some languages, as py3langid (Lui 2012) tells them."""

    keep: list[str] = Field(min_length=1, description="ISO 639-1 codes, e.g. [en]")
    min_probability: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="Of the likeliest language; answers without words get about 0.17"
    )

    @checked(mode="after")
    def _known(self) -> "LanguageFilter":
        if unknown := [code for code in self.keep if code not in LANGUAGES]:
            raise ValueError(
                f"{unknown[0]!r} is no language known here; use {', '.join(LANGUAGES)}"
            )
        return self


class LossFilter(Section):
    """Keep answers by the teacher's own mean loss on them, nats per token at its temperature."""

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
                "min_quantile must be below max_quantile, and one of them inside 0 to 1"
            )
        return self

    @property
    def share(self) -> float:
        """The share of answers that it keeps."""
        return self.max_quantile - self.min_quantile


class DuplicateFilter(Section):
    """Keep answers that resemble no answer kept before them (MinHash LSH, then exactly)."""

    threshold: Probability = Field(
        0.7,
        description="Jaccard similarity of 5-character shingles from which two answers are near-duplicates",
    )


class Corruption(Section):
    """Spoil some of the answers kept. A row is corrupted at every size and draw, or at none."""

    share: Probability = Field(
        description="Expected share; a larger share spoils the same and more"
    )
    kind: Literal["shuffle_words", "replace_response"] = Field(
        description="`shuffle_words`: the answer's words in another order; `replace_response`: the answer to another prompt, of the pool's first part"
    )
    seed: NotNegative = Field(0, description="Seed of which answers are corrupted and how")


class Curation(Section):
    """Which answers are trained on: filters, in the order of the keys below, then corruption. Each
    row is decided from itself, earlier rows of the draw and constants of the pool's first part, so
    that n rows are a prefix of more; n counts rows kept."""

    surplus: Annotated[float, Field(ge=1, le=100)] = Field(
        1.5, description="Answers asked of the teacher per row kept, where there is a filter"
    )
    length: LengthFilter | None = Field(None, description="Filter by length")
    language: LanguageFilter | None = Field(None, description="Filter by language")
    teacher_loss: LossFilter | None = Field(None, description="Filter by the teacher's own loss")
    near_duplicates: DuplicateFilter | None = Field(
        None, description="Filter answers that resemble an earlier one"
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
        """Its filters, in the order in which they act."""
        return [name for name in FILTERS if getattr(self, name) is not None]

    def candidates(self, samples: int) -> int:
        """Rows of the pool to choose `samples` from."""
        return math.ceil(samples * self.surplus) if self.filters else samples


FILTERS = ("length", "language", "teacher_loss", "near_duplicates")
