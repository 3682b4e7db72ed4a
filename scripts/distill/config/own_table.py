"""The config of a study of a user's own table of runs."""

from typing import Any, Literal

from pydantic import Field, model_validator

from distill.config.text import Encoding
from distill.config.values import LocalPath, Name, Section

CountUnit = Literal["ones", "thousands", "millions", "billions", "trillions", "log10", "log2", "ln"]
LossUnit = Literal["nats", "bits", "perplexity", "hundredths"]
ComputeUnit = Literal[
    "ones", "teraflops", "petaflops", "exaflops", "zettaflops", "petaflop_days", "log10"
]


class TableColumns(Section):
    """Which column of the table is what. Only params, loss and tokens (or flops) are required."""

    params: str = Field(
        description="Parameters of the model; state in your paper which ones you count"
    )
    tokens: str | None = Field(
        None,
        description="Training tokens seen, counting repeats; may be left out if flops are given, from which tokens are then computed as flops / (6 params)",
    )
    loss: str = Field(description="Held-out loss, nats per token unless units say otherwise")
    params_non_embedding: str | None = Field(
        None, description="Parameters without embeddings and output head; adds laws over this size"
    )
    kind: str | None = Field(
        None,
        description="What a run is: distilled (also kd, distillation) or supervised (also sft, pretrained, scratch)",
    )
    teacher: str | None = Field(
        None, description="Name of the teacher; empty for a run without one"
    )
    teacher_loss: str | None = Field(
        None, description="The teacher's loss on the same held-out text, nats per token"
    )
    teacher_params: str | None = Field(None, description="Parameters of the teacher")
    unique_tokens: str | None = Field(None, description="Unique training tokens")
    epochs: str | None = Field(None, description="Tokens seen divided by unique tokens")
    flops: str | None = Field(None, description="Training FLOPs")
    loss_stderr: str | None = Field(
        None,
        description="Standard error of the loss, in the unit of the loss; runs weigh by it in the fit",
    )
    weight: str | None = Field(
        None,
        description="How much a run counts in the fit, in any unit: 4 for the mean of 4 runs, 1 for one run",
    )
    reference_loss: str | None = Field(
        None,
        description="Loss on another text that all runs share, in the unit of the loss; related to the loss",
    )
    accuracy: str | None = Field(
        None,
        description="Score on a task, a share from 0 to 1; related to the loss and to the tokens",
    )
    items: str | None = Field(
        None,
        description="Number of items that accuracy is a share of; without it the relation is fitted by least squares",
    )
    learning_rate: str | None = Field(
        None,
        description="Peak learning rate; of runs that differ in it alone, the best rate is kept",
    )
    method: str | None = Field(
        None, description="Name of the method; each method gets its own laws"
    )
    init: str | None = Field(
        None, description="Initialisation of the student; each one gets its own laws"
    )
    group: str | None = Field(None, description="Any other label; each group gets its own laws")
    seed: str | None = Field(None, description="Integer; repeats of a run have different seeds")

    @model_validator(mode="after")
    def _counts_data(self) -> "TableColumns":
        if self.tokens is None and self.flops is None:
            raise ValueError(
                "tokens is missing; name the column of training tokens seen (or, as flops, that of "
                "training FLOPs)"
            )
        if self.items is not None and self.accuracy is None:
            raise ValueError("items counts those of accuracy; name the column of accuracy too")
        if self.weight is not None and self.loss_stderr is not None:
            raise ValueError("weight and loss_stderr both say how much a run counts; name one")
        return self


class TableUnits(Section):
    """Units of columns. What is stated here is not questioned; what is not is checked."""

    params: CountUnit | None = Field(None, description="Unit of params (default: ones)")
    params_non_embedding: CountUnit | None = Field(
        None, description="Unit of params_non_embedding (default: that of params)"
    )
    teacher_params: CountUnit | None = Field(
        None, description="Unit of teacher_params (default: that of params)"
    )
    tokens: CountUnit | None = Field(None, description="Unit of tokens (default: ones)")
    unique_tokens: CountUnit | None = Field(
        None, description="Unit of unique_tokens (default: that of tokens)"
    )
    flops: ComputeUnit | None = Field(None, description="Unit of flops (default: ones)")
    loss: LossUnit | None = Field(
        None,
        description="Unit of loss, loss_stderr, reference_loss and teacher_loss (default: nats); perplexity is exp(loss)",
    )


class RunsTable(Section):
    """Your own table of runs."""

    path: LocalPath = Field(
        description="One file with a row per run: CSV with any separator, TSV, JSON, JSONL, Parquet, Arrow or the first sheet of an Excel or OpenDocument workbook; text formats may be compressed"
    )
    columns: TableColumns = Field(description="Which column of the table is what")
    units: TableUnits | None = Field(
        None, description="Units of columns that are not ones and nats per token"
    )
    encoding: Encoding | None = Field(
        None,
        description="Encoding of a text file, such as cp1252 (default: UTF-8, or as its byte-order mark says)",
    )


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

    @property
    def units(self) -> dict[str, str]:
        """The stated unit of a column, by the name that this library uses."""
        units = self.runs_table.units
        return {} if units is None else units.model_dump(exclude_none=True)
