"""The config's sections on a student's loss: soft targets and methods."""

from typing import Annotated, Any, Literal

from pydantic import Field, create_model
from pydantic import model_validator as checked

from distill.config.values import (
    DataSource,
    NotNegative,
    Positive,
    SearchName,
    Section,
    TeacherName,
    Weight,
)
from distill.contracts.divergences import DIVERGENCES


class LayerStates(Section):
    """Hidden states of chosen teacher layers, stored beside the soft targets."""

    layers: list[NotNegative] = Field(
        min_length=1, description="0 is the embeddings, i the output of the i-th layer"
    )
    projection: Literal["none", "random", "pca"] = Field(
        "none",
        description="`random`: seeded Gaussian matrix; `pca`: principal directions of the first training part",
    )
    width: Positive | None = Field(None, description="Width after projection")
    bits: Literal[8, 16] = Field(8, description="8: int8 with a scale per token; 16: bf16")
    seed: NotNegative = Field(0, description="Seed of the random projection")

    @checked(mode="after")
    def _consistent(self) -> "LayerStates":
        if (self.projection == "none") != (self.width is None):
            raise ValueError("width needs projection random or pca, and both need width")
        if len(set(self.layers)) < len(self.layers):
            raise ValueError(f"layers: {self.layers} lists a layer twice; list it once")
        return self


class Cache(Section):
    """Soft targets: what is stored of the teacher's distribution, once for all students."""

    scheme: Literal["final_hidden", "top_k", "top_k_tail", "sampled", "dense"] = Field(
        description="`final_hidden`: last hidden states in bf16, exact up to rounding; `top_k`: the k most likely tokens, renormalised; `top_k_tail`: these, and all other tokens as one bucket; `sampled`: draws with replacement, unbiased; `dense`: all tokens, for tiny vocabularies"
    )
    k: Positive | None = Field(None, description="top_k, top_k_tail: ids stored per position")
    draws: Annotated[int, Field(gt=0, le=65_535)] | None = Field(
        None, description="sampled: draws per position"
    )
    systematic: bool = Field(
        False,
        description="sampled: systematic sampling (evenly spaced quantiles from one uniform per position), unbiased and less noisy than independent draws",
    )
    log_p: bool = Field(
        False, description="sampled: store log p of the drawn ids, which other temperatures need"
    )
    bits: Literal[8, 16] = Field(8, description="Bits per stored log-probability")
    temperatures: list[Annotated[float, Field(gt=0)]] = Field(
        default_factory=list,
        description="top_k, top_k_tail, sampled: further loss temperatures, relative to q, that methods use",
    )
    tokens: Literal["answer", "all"] = Field(
        "answer", description="Scored positions: the answer, or the prompt and the answer"
    )
    teachers: dict[TeacherName, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="Weights of several teachers whose mixture is the target; each scores the run's text (default: the run's teacher)",
    )
    hidden: LayerStates | None = Field(
        None, description="Also store hidden states of layers (default: none)"
    )
    seed: NotNegative = Field(0, description="sampled: seed of the draws")

    @checked(mode="after")
    def _consistent(self) -> "Cache":
        if (self.k is not None) != self.scheme.startswith("top_k"):
            raise ValueError("k needs scheme top_k or top_k_tail, and both need k")
        if (self.draws is not None) != (self.scheme == "sampled"):
            raise ValueError("draws needs scheme sampled, and scheme sampled needs draws")
        if (self.log_p or self.systematic) and self.scheme != "sampled":
            raise ValueError("log_p and systematic need scheme sampled; remove them")
        if self.temperatures and self.scheme in ("final_hidden", "dense"):
            raise ValueError(f"{self.scheme} supports every temperature; remove temperatures")
        if 1.0 in self.temperatures or len(set(self.temperatures)) < len(self.temperatures):
            raise ValueError("temperatures: list each once, without 1, which every cache supports")
        if self.temperatures and self.scheme == "sampled" and not self.log_p:
            raise ValueError("temperatures with scheme sampled needs log_p: true")
        if self.teachers and self.scheme == "final_hidden":
            raise ValueError(
                "final_hidden cannot store a mixture of several teachers; use top_k, top_k_tail, sampled or dense"
            )
        return self


class LayerLoss(Section):
    """Match hidden states of layers, through learned projections."""

    weight: Annotated[float, Field(gt=0)] = Field(1.0, description="Weight of this loss")
    loss: Literal["mse", "cosine"] = Field(
        "mse", description="Mean squared error, or 1 minus the cosine similarity"
    )
    layers: dict[NotNegative | Literal["last"], NotNegative] = Field(
        min_length=1,
        description="Student layer: teacher layer, e.g. {1: 8, 2: 15}; 0 is the embeddings, `last` is the student's last layer",
    )


class EmbeddingLoss(Section):
    """Match the final hidden states, through a learned projection."""

    weight: Annotated[float, Field(gt=0)] = Field(1.0, description="Weight of this loss")
    loss: Literal["mse", "cosine"] = Field(
        "mse", description="Mean squared error, or 1 minus the cosine similarity"
    )
    head: Literal["own", "teacher"] = Field(
        "own",
        description="Output head of the trained student: `own`, trained by the other losses only; or `teacher`, the teacher's head composed with the projection and saved as the student's",
    )


class OnPolicy(Section):
    """Run the teacher during training, without a cache, also on answers that the student samples
    (GKD, Agarwal 2024)."""

    share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5,
        description="Share of the updates, evenly spaced, on answers that the student samples to the same prompts with its current weights; the other updates use the teacher's text",
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        1.0, description="Temperature of the student's sampling"
    )
    max_tokens: Positive = Field(128, description="Longest sampled answer in tokens")


CHUNK = 64
"""Default tokens per chunk of a method's corpus."""


class _HardLoss(Section):
    ce: Weight = Field(0.0, description="Cross-entropy on the text's answer tokens")


def _divergence_fields() -> dict[str, Any]:
    """The weight of each divergence, and its parameter if it has one."""
    fields: dict[str, Any] = {}
    for row in DIVERGENCES.values():
        fields[row.name] = (Weight, Field(0.0, description=f"{row.meaning} ({row.source})"))
        if number := row.parameter:
            kind = Annotated[float, Field(**number.limits)]
            fields[number.key] = (kind, Field(number.default, description=number.meaning))
    return fields


_Divergences: Any = create_model("_Divergences", __base__=_HardLoss, **_divergence_fields())


class Method(_Divergences):
    """A weighted sum of losses, each averaged over its own tokens."""

    uld: Weight = Field(
        0.0,
        description="Universal logit distillation (Boizard 2024), for students with another tokenizer",
    )
    spans: Weight = Field(
        0.0,
        description="For students with another tokenizer: spans of text with the same boundaries in both; compares next-token distributions where both spans are one token (as GOLD in TRL), else the spans' likelihoods (ALM, Minixhofer 2025)",
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        1.0,
        description="Divides the logits of both models (the teacher's in addition to its own temperature); soft losses are multiplied by its square",
    )
    tokens: Literal["answer", "all"] = Field(
        "answer", description="Positions of soft losses: the answer, or the prompt and the answer"
    )
    hidden: LayerLoss | None = Field(None, description="Match hidden states of layers")
    embedding: EmbeddingLoss | None = Field(None, description="Match the last hidden states")
    on_policy: OnPolicy | None = Field(
        None, description="Run the teacher during training, also on the student's own answers"
    )
    corpus: DataSource | None = Field(
        None,
        description="Train without a teacher on chunks of this data source with a text field; only ce may have a weight",
    )
    corpus_tokens: Positive = Field(
        CHUNK, description="corpus: tokens per chunk; the loss covers all of them"
    )
    train: dict[str, Any] = Field(
        default_factory=dict, description="Entries of `train` that differ for this method"
    )
    search: SearchName | None = Field(
        None, description="Take method and settings from the best trial of this search"
    )

    @checked(mode="after")
    def _some_loss(self) -> "Method":
        if self.search is not None:
            if self.model_dump(exclude_defaults=True).keys() - {"search"}:
                raise ValueError(
                    "a method with search must have no other key: the search sets them"
                )
        elif not (self.weights or self.hidden or self.embedding):
            raise ValueError("give at least one loss a weight above 0, such as ce: 1.0")
        if self.spans and len(self.soft) > 1:
            raise ValueError(
                "spans can be combined with ce only: the other soft losses compare token with token; remove those or spans"
            )
        if self.corpus is not None and self.soft:
            raise ValueError(
                f"the corpus {self.corpus} has no teacher, so there are no soft targets for {', '.join(self.soft)}; give only ce a weight, or remove corpus"
            )
        if self.corpus is None and self.corpus_tokens != CHUNK:
            raise ValueError("corpus_tokens needs corpus; name a data source there")
        return self

    @checked(mode="after")
    def _live(self) -> "Method":
        if self.on_policy is None:
            return self
        if other := [name for name in self.soft if name not in DIVERGENCES]:
            raise ValueError(
                f"on_policy compares distributions over the same tokens, which {other[0]} does not; remove {other[0]} or on_policy"
            )
        if not self.soft:
            raise ValueError(
                f"on_policy needs a divergence from the teacher; give one of {', '.join(DIVERGENCES)} a weight above 0"
            )
        if self.ce and self.on_policy.share == 1:
            raise ValueError(
                "ce learns the teacher's answers, but on_policy.share: 1 uses only the student's; lower share or remove ce"
            )
        return self

    @property
    def weights(self) -> dict[str, float]:
        """Weights above 0 of losses on logits, by name."""
        return {name: getattr(self, name) for name in LOSSES if getattr(self, name) > 0}

    @property
    def soft(self) -> list[str]:
        """Names of the losses that need soft targets."""
        losses = [name for name in self.weights if name != "ce"]
        return losses + [name for name in ("hidden", "embedding") if getattr(self, name)]

    @property
    def infinite_at_zero(self) -> bool:
        """Whether a loss is infinite where the teacher gives a token probability 0."""
        values = self.model_dump()
        rows = (DIVERGENCES[name] for name in self.soft if name in DIVERGENCES)
        return any(row.infinite_with(values) for row in rows)

    @property
    def reads_cache(self) -> bool:
        """Whether the soft targets come from a cache rather than from a live teacher."""
        return bool(self.soft) and self.on_policy is None


LOSSES = ("ce", *DIVERGENCES, "uld", "spans")
