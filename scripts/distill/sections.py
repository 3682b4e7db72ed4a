"""What all sections of the config share: kinds of values, and that unknown keys are errors."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Probability = Annotated[float, Field(gt=0, le=1)]
Precision = Literal["auto", "bf16", "fp16", "fp32"]
Threads = Annotated[int, Field(gt=0)]
SHARE = r"^\d+(\.\d+)? ?%$"
_COUNT = {
    "anyOf": [{"exclusiveMinimum": 0, "type": "integer"}, {"pattern": SHARE, "type": "string"}]
}
Samples = Annotated[int, Field(gt=0), WithJsonSchema(_COUNT)]
"""A number of rows, or a share such as "10%", which is made a number on reading."""
HeldOut = Annotated[
    int,
    Field(ge=0),
    WithJsonSchema(
        {"anyOf": [{"minimum": 0, "type": "integer"}, {"pattern": SHARE, "type": "string"}]}
    ),
]


class Section(BaseModel):
    """A part of the config: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Weight = Annotated[float, Field(ge=0)]
