"""The config's checks of answers: what an answer must meet to pass, each by a module of
`distill.evaluation.checkers`."""

import re
from typing import Any

from pydantic import Field, field_validator
from pydantic import model_validator as checked

from distill.config.values import Section


class AnswerChecks(Section):
    """What an answer must meet, all of it. Texts may hold slots such as {response}."""

    contains: list[str] | None = Field(
        None, min_length=1, description="Words or phrases that occur in it, in any case"
    )
    excludes: list[str] | None = Field(
        None, min_length=1, description="Words or phrases that do not occur in it, in any case"
    )
    regex: str | None = Field(
        None, description="Regular expression (Python's) that is found in it; ^ and $ are its ends"
    )
    exact: str | None = Field(
        None, description="Text that it equals, apart from case, white space and a final full stop"
    )
    number: float | str | None = Field(
        None, description="Number that the last number in it equals, to a relative error of 1e-6"
    )
    json_schema: dict[str, Any] | None = Field(
        None, description="JSON schema that it meets, as JSON alone or in a fenced block"
    )
    ifeval: dict[str, dict[str, Any]] | None = Field(
        None,
        min_length=1,
        description="Constraints of IFEval (Zhou 2023) by id, each with its arguments, such as {length_constraints:number_words: {relation: less than, num_words: 20}}",
    )

    @field_validator("contains", "excludes", mode="before")
    @classmethod
    def _one_text(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("regex")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"{value!r} is not a regular expression: {error}") from None
        return value

    @checked(mode="after")
    def _something(self) -> "AnswerChecks":
        if not self.model_dump(exclude_none=True):
            names = ", ".join(type(self).model_fields)
            raise ValueError(f"give at least one of {names}, or remove checks")
        return self
