"""The config of a study of a user's own table of runs."""

from typing import Any

from pydantic import Field

from distill.config.values import LocalPath, Name, Section


class TableColumns(Section):
    """Which column of the table is what. Only the first three are required."""

    params: str = Field(
        description="Parameters of the student; state in your paper which ones you count"
    )
    tokens: str = Field(description="Training tokens seen, counting repeats")
    loss: str = Field(description="Held-out loss, nats per token")
    teacher_loss: str | None = Field(
        None, description="The teacher's loss on the same held-out text, nats per token"
    )
    teacher_params: str | None = Field(None, description="Parameters of the teacher")
    unique_tokens: str | None = Field(None, description="Unique training tokens")
    epochs: str | None = Field(None, description="Tokens seen divided by unique tokens")
    flops: str | None = Field(None, description="Training FLOPs")
    method: str | None = Field(
        None, description="Name of the method; each method gets its own laws"
    )
    init: str | None = Field(
        None, description="Initialisation of the student; each one gets its own laws"
    )
    group: str | None = Field(None, description="Any other label; each group gets its own laws")
    seed: str | None = Field(None, description="Integer; repeats of a run have different seeds")


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
        """What the answers depend on beyond the runs table: such a study states nothing."""
        return {"cost": None, "corpus_methods": []}

    @property
    def results(self) -> str:
        """The study's directory."""
        return f"results/{self.study}"

    @property
    def columns(self) -> dict[str, str]:
        """The table's column name, by the name that this library uses."""
        return self.runs_table.columns.model_dump(exclude_none=True)
