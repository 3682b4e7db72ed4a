"""Types of values that all sections of the config share; unknown keys are errors."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


@dataclass(frozen=True)
class Ref:
    """Marks a name in the config that must be a key of one of the study's mappings.

    Attributes:
        table: Path of the mapping in the study, such as `students`.
        kind: What error sentences call an entry.
        besides: Reserved names that need no entry.
        data: For a source: whether it must be a data set (True) or a model (False).
    """

    table: str
    kind: str
    besides: tuple[str, ...] = ()
    data: bool | None = None


StudentName = Annotated[Name, Ref("students", "student")]
TeacherName = Annotated[Name, Ref("teachers", "teacher")]
MethodName = Annotated[Name, Ref("methods", "method")]
CacheName = Annotated[Name, Ref("caches", "cache")]
CurationName = Annotated[Name, Ref("curations", "curation", besides=("raw",))]
SearchName = Annotated[Name, Ref("searches", "search")]
BenchmarkName = Annotated[Name, Ref("evaluate.benchmarks", "benchmark")]
DataSource = Annotated[Name, Ref("sources", "source", data=True)]
PromptSource = Annotated[str, Ref("sources", "source", besides=("magpie",), data=True)]
TokenizerSource = Annotated[str, Ref("sources", "source", data=False)]
ModelSource = Annotated[Name, Ref("sources", "source", data=False)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
LARGEST = 2**53
"""Largest integer that every JSON reader represents exactly; torch accepts seeds up to it."""
MOST_ROWS = 10_000_000
"""Largest number of rows that a draw permutes or a split holds out; they are listed in memory."""
MOST_SAMPLES = 10_000_000_000
"""Largest pool in its own order; only its parts are listed in memory."""
MOST_PARTS = 100_000
Positive = Annotated[int, Field(gt=0, le=LARGEST)]
NotNegative = Annotated[int, Field(ge=0, le=LARGEST)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""A seed of training, which numpy's generator takes too."""
Rows = Annotated[int, Field(gt=0, le=MOST_ROWS)]
Probability = Annotated[float, Field(gt=0, le=1)]
Precision = Literal["auto", "bf16", "fp16", "fp32"]
PRECISION = "Precision of matrix products; `auto` times one at the job's start and takes bf16 if it is faster, else fp32"
Threads = Annotated[int, Field(gt=0, le=4096)]
SHARE = r"^\d+(\.\d+)? ?%$"


def _count(least: int, most: int = MOST_ROWS) -> WithJsonSchema:
    """The JSON schema of an integer in [least, most] or a share, for editors."""
    number = {"type": "integer", "minimum": least, "maximum": most}
    return WithJsonSchema({"anyOf": [number, {"pattern": SHARE, "type": "string"}]})


Samples = Annotated[int, Field(gt=0, le=MOST_SAMPLES), _count(1, MOST_SAMPLES)]
"""A number of rows, or a share such as "10%" that becomes a number when the config is read."""
Tested = Annotated[int, Field(gt=0, le=MOST_ROWS), _count(1)]
HeldOut = Annotated[int, Field(ge=0, le=MOST_ROWS), _count(0)]


def _usable_path(path: str) -> str:
    if path.startswith("~"):
        path = str(Path(path).expanduser())
    if not path.strip() or any(len(name.encode()) > 255 for name in path.split("/")):
        raise ValueError("a path must not be empty, and none of its names may exceed 255 bytes")
    if "//" in path or not {*"{}\n\r\t"}.isdisjoint(path):
        raise ValueError(
            "a path must not contain //, braces, tabs or line breaks, because Snakemake interprets them"
        )
    return path


LocalPath = Annotated[str, Field(max_length=4000), AfterValidator(_usable_path)]
"""A local file or folder."""


def _kinds(annotation: Any) -> set[Any]:
    """The basic types in an annotation such as `list[int] | None`."""
    arguments = get_args(annotation)
    return set().union(*map(_kinds, arguments)) if arguments else {annotation}


def _has_switch(value: Any) -> bool:
    """Whether a value is a boolean, or a list or mapping that holds one."""
    if isinstance(value, (list, dict)):
        return any(map(_has_switch, value.values() if isinstance(value, dict) else value))
    return isinstance(value, bool)


class Section(BaseModel):
    """A section of the config: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = _kinds(cls.model_fields[info.field_name or ""].annotation)
        if {int, float} & kinds and bool not in kinds and _has_switch(value):
            raise ValueError(
                "true and false (also yes, no, on, off) are not numbers; give a number"
            )
        return value


Weight = Annotated[float, Field(ge=0)]
