"""The config of a study of a user's own table of runs."""

from typing import Any

from pydantic import Field

from distill.config.values import LocalPath, Name, Section


class TableColumns(Section):
    """Which column of the table is what. Only the first three are required."""

    params: str = Field(description="Parameters of the student; say in your paper which ones")
    tokens: str = Field(description="Training tokens seen, repeats counted")
    loss: str = Field(description="Held-out loss, nats per token")
    teacher_loss: str | None = Field(None, description="The teacher's own loss there")
    teacher_params: str | None = Field(None, description="Parameters of the teacher")
    unique_tokens: str | None = Field(None, description="Different training tokens")
    epochs: str | None = Field(None, description="Tokens seen over different ones")
    flops: str | None = Field(None, description="FLOPs of training")
    method: str | None = Field(None, description="Name of the method; laws never mix two")
    init: str | None = Field(None, description="How the student began; laws never mix two")
    group: str | None = Field(None, description="Anything else that laws must not mix")
    seed: str | None = Field(None, description="Whole number; repeats of a run differ in it")


class RunsTable(Section):
    """Your own table of runs."""

    path: LocalPath = Field(description="CSV or Parquet, one row per run")
    columns: TableColumns = Field(description="Which column of the table is what")


class TableStudy(Section):
    """A study without models: `study` and `runs_table` alone."""

    study: Name
    runs_table: RunsTable

    def provenance_spec(self) -> dict[str, Any]:
        """The study as it was checked; its runs are in the table."""
        return {"config": self.model_dump(exclude_none=True), "runs": []}

    def answer_spec(self) -> dict[str, Any]:
        """What the answers depend on beyond the runs table: nothing was stated."""
        return {"cost": None, "corpus_methods": []}

    @property
    def results(self) -> str:
        """The study's directory."""
        return f"results/{self.study}"

    @property
    def columns(self) -> dict[str, str]:
        """Our name of each column that is given: the table's."""
        return self.runs_table.columns.model_dump(exclude_none=True)
