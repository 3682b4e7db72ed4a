"""The config's sections of what is measured."""

import math
from typing import Annotated

from pydantic import Field
from pydantic import model_validator as checked

from distill.config.values import (
    PRECISION,
    DataSource,
    LocalPath,
    Name,
    NotNegative,
    Positive,
    Precision,
    Probability,
    Section,
    Threads,
)


class Reference(Section):
    """A fixed text that no teacher of the study wrote, to judge teachers and students alike."""

    source: DataSource = Field(description="Data source with a text field")
    passages: Positive = Field(100, description="How many passages, the first of the file")
    max_tokens: Positive = Field(256, description="Each passage is cut to this many tokens")


class Answers(Section):
    """How held-out prompts are answered for BLEU and ROUGE-L. Each row's noise depends on its id
    and the seed alone, so that all models answer with the same."""

    max_tokens: Positive = Field(description="Longest answer")
    temperature: Annotated[float, Field(ge=0)] = Field(1.0, description="0: greedy")
    top_k: NotNegative = Field(0, description="0: no cut")
    top_p: Probability = Field(1.0, description="1: no cut")
    seed: NotNegative = Field(0, description="Seed of the sampling")
    batch_size: Positive = Field(
        128, description="Prompts answered at once, verifiable instructions included"
    )
    validation: bool = Field(
        False,
        description="Answer as many validation prompts too, for bleu_validation; training and settings have seen them",
    )


class Weights(Section):
    """Weights of the combined score; they sum to 1."""

    perplexity: Annotated[float, Field(ge=0)] = Field(1 / 3, description="Weight of 1 / perplexity")
    pass_rate: Annotated[float, Field(ge=0)] = Field(1 / 3, description="Weight of the pass rate")
    tokens_per_second: Annotated[float, Field(ge=0)] = Field(
        1 / 3, description="Weight of the speed"
    )

    @checked(mode="after")
    def _sum(self) -> "Weights":
        if not math.isclose(self.perplexity + self.pass_rate + self.tokens_per_second, 1):
            raise ValueError("the three weights must sum to 1")
        return self


class Prices(Section):
    """What work costs, in one currency, to compare methods at equal money."""

    teacher_million_tokens: Annotated[float, Field(ge=0)] = Field(
        description="A million tokens that a teacher writes; 0 where only its hours are paid"
    )
    hour: Annotated[float, Field(ge=0)] = Field(
        description="An hour of the machine that trains and scores; 0 where it is free"
    )

    @checked(mode="after")
    def _paid(self) -> "Prices":
        if self.teacher_million_tokens == 0 and self.hour == 0:
            raise ValueError("give at least one price above 0, or leave prices out")
        return self


class Benchmark(Section):
    """A task of lm-evaluation-harness, under its name there: MMLU is `mmlu`."""

    metric: str | None = Field(
        None,
        description="Its score, e.g. acc_norm, or with its filter exact_match,strict-match (default: the first that the task reports)",
    )
    fewshot: NotNegative | None = Field(
        None, description="Examples before each question (default: the task's own number)"
    )
    limit: Positive | None = Field(
        None, description="Only so many first documents of each (sub)task, to try it out"
    )
    chat_template: bool = Field(
        False, description="Put the prompts into the tokenizer's chat template"
    )
    include: LocalPath | None = Field(
        None,
        description="Folder with task files of one's own, and best their data: a change there is seen (default: the harness's own tasks)",
    )


class Evaluate(Section):
    """What is measured on every student and teacher."""

    reference: Reference | None = Field(
        None,
        description="May be left out where a corpus is learned, whose held-out text no teacher wrote",
    )
    generated_instructions: Annotated[int, Field(ge=200)] = Field(
        200, description="Size of the second, generated set of verifiable instructions"
    )
    instruction_tokens: Positive = Field(
        96, description="Longest answer to a verifiable instruction (greedy decoding)"
    )
    reference_answers: NotNegative = Field(
        100,
        description="Held-out prompts answered for BLEU and ROUGE-L, where the data set has answers of its own",
    )
    answers: Answers | None = Field(
        None,
        description="How those prompts are answered (default: greedily, with instruction_tokens)",
    )
    qualitative: NotNegative = Field(
        5, description="Held-out prompts shown in the report with every answer"
    )
    batch_size: Positive = Field(16, description="Rows per forward pass")
    precision: Precision = Field("auto", description=PRECISION)
    latency_tokens: Positive = Field(128, description="Forced new tokens per timed generation")
    latency_repeats: Annotated[int, Field(ge=10)] = Field(10, description="Timed repetitions")
    latency_batch: Positive = Field(
        1, description="masked-lm: chunks per timed forward pass, which takes generation's place"
    )
    pseudo_chunks: Positive = Field(
        32,
        description="masked-lm: held-out chunks for the pseudo-perplexity, which takes a forward pass per token",
    )
    combined_weights: Weights = Field(Weights(), description="Weights of the combined score")
    cost: dict[str, Annotated[float, Field(gt=0)]] | None = Field(
        None,
        description="Nats of loss that one unit of a runs-table column is worth, e.g. {samples: 1e-4}; lets a sweet spot be claimed",
    )
    target_loss: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Held-out loss to reach, nats per token: how much data does it need?"
    )
    prices: Prices | None = Field(
        None, description="Lets methods be compared at equal money (default: not compared)"
    )
    benchmarks: dict[Name, Benchmark] = Field(
        default_factory=dict,
        description="Tasks of lm-evaluation-harness for students and their teachers, e.g. {mmlu: {fewshot: 5}}",
    )
    latency_threads: Threads = Field(
        1, description="CPU threads while timing; nothing else runs then"
    )
    threads: Threads = Field(1, description="CPU threads per job; results depend on it slightly")
