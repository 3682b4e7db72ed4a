"""The config's sections on training and on hyper-parameter searches."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic import model_validator as checked

from distill.config.values import (
    PRECISION,
    CacheName,
    MethodName,
    NotNegative,
    Positive,
    Precision,
    Samples,
    Section,
    StudentName,
    TeacherName,
    Threads,
)


class EarlyStopping(Section):
    """Stop when cross-entropy on validation answers no longer falls; keep the best checkpoint."""

    patience: Positive = Field(
        4, description="Evaluations without improvement after which training stops"
    )
    every: Positive | None = Field(
        None, description="Updates between evaluations (default: an epoch)"
    )


class Lora(Section):
    """Train low-rank adapters (Hu 2021) and save the merged weights."""

    rank: Positive = Field(8, description="Rank of the adapters")
    alpha: Annotated[float, Field(gt=0)] = Field(
        16.0, description="Scale: the adapters' output is multiplied by alpha / rank"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Dropout of the adapters' input"
    )
    targets: list[str] | Literal["all-linear"] = Field(
        "all-linear", description="Names of the modules that get an adapter, or all linear ones"
    )


class WidthRule(Section):
    """Scale the learning rate with width: learning_rate * (width / at)^power."""

    at: Positive = Field(description="Width (hidden_size) to which `learning_rate` applies")
    power: float = Field(description="-1 as in muP (Yang 2022); -0.5 is a common compromise")


class Train(Section):
    """Hyper-parameters, fixed for the study."""

    epochs: Positive = Field(2, description="Passes over the training set")
    max_updates: Positive | None = Field(
        None, description="Stop (and end the schedule) after this many updates instead of epochs"
    )
    batch_size: Positive = Field(16, description="Responses per update")
    micro_batch_size: Positive | None = Field(
        None,
        description="Responses per forward pass; the rest is accumulated (default: batch_size)",
    )
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        5e-5, description="Peak learning rate of AdamW, by which an update changes a weight"
    )
    width_rule: WidthRule | None = Field(
        None, description="Scale the learning rate with a student's width (default: one for all)"
    )
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="How the learning rate falls after warm-up"
    )
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Share of the updates in which the learning rate rises linearly"
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="Weight decay of AdamW")
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(
        1.0, description="Gradients are clipped to this norm"
    )
    max_length: Positive = Field(
        512,
        description="Longest prompt + response in tokens; longer responses are truncated and carry no EOS",
    )
    precision: Precision = Field("auto", description=PRECISION)
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass: less memory, more time"
    )
    lora: Lora | None = Field(None, description="Train adapters (default: all weights)")
    early_stopping: EarlyStopping | None = Field(
        None, description="Stop on the validation loss (default: train for all epochs)"
    )
    checkpoint_updates: NotNegative = Field(
        500, description="Updates between checkpoints that a killed job resumes from; 0: none"
    )
    threads: Threads = Field(1, description="CPU threads per job; results depend on it slightly")

    @checked(mode="after")
    def _divides(self) -> "Train":
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError("batch_size must be a multiple of micro_batch_size")
        return self


class Range(Section):
    """The range in which a search varies one setting."""

    low: float = Field(description="Smallest value")
    high: float = Field(description="Largest value")
    log: bool = Field(False, description="Uniform in the logarithm")

    @checked(mode="after")
    def _ordered(self) -> "Range":
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("low must be below high, and above 0 with log: true")
        return self


class Search(Section):
    """An Optuna search (TPE with pruning) over numeric settings of a method and of training.

    It minimises unweighted cross-entropy at temperature 1 on validation answers.
    """

    student: StudentName = Field(description="Student that the trials train")
    teacher: TeacherName = Field(description="Teacher whose text the trials learn")
    method: MethodName = Field(description="The method whose settings are searched")
    cache: CacheName | None = Field(None, description="Soft targets that the method reads")
    samples: Samples = Field(description="Size of the training set of each trial")
    draw: NotNegative = Field(0, description="Draw of that training set")
    space: dict[str, Range] = Field(
        min_length=1,
        description="Settings, as method.<key> or train.<key>, e.g. {train.learning_rate: {low: 1e-5, high: 1e-3, log: true}}",
    )
    trials: Positive = Field(20, description="Number of trials")
    startup_trials: Positive = Field(5, description="Random trials before TPE and pruning begin")
    seed: NotNegative = Field(0, description="Seed of the search")
