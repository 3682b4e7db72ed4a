"""The config's sections of what a student minimises: soft targets and methods."""

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
    """Hidden states of chosen teacher layers, kept beside the soft targets."""

    layers: list[NotNegative] = Field(
        min_length=1, description="0 is the embeddings, i the output of the i-th layer"
    )
    projection: Literal["none", "random", "pca"] = Field(
        "none", description="`random`: seeded Gaussian; `pca`: fitted on the first training part"
    )
    width: Positive | None = Field(None, description="Width after projection")
    bits: Literal[8, 16] = Field(8, description="8: int8 with a scale per token; 16: bf16")
    seed: NotNegative = Field(0, description="Of the random projection")

    @checked(mode="after")
    def _consistent(self) -> "LayerStates":
        if (self.projection == "none") != (self.width is None):
            raise ValueError("width goes with projection random or pca, and those need width")
        if len(set(self.layers)) < len(self.layers):
            raise ValueError(f"layers: {self.layers} names a layer twice; name it once")
        return self


class Cache(Section):
    """What is stored of the teacher's distribution, once, for any number of students."""

    scheme: Literal["final_hidden", "top_k", "top_k_tail", "sampled", "dense"] = Field(
        description="`final_hidden`: last hidden states in bf16, exact but for their rounding; `top_k`: the k likeliest, renormalised; `top_k_tail`: with the rest as one bucket; `sampled`: draws with replacement, unbiased; `dense`: every word, for tiny vocabularies"
    )
    k: Positive | None = Field(None, description="top_k, top_k_tail: ids kept per token")
    draws: Annotated[int, Field(gt=0, le=65_535)] | None = Field(
        None, description="sampled: draws per token"
    )
    systematic: bool = Field(
        False,
        description="sampled: evenly spaced draws from one uniform per token, as unbiased as independent ones and less noisy",
    )
    log_p: bool = Field(
        False, description="sampled: store log p of the drawn ids, which other temperatures need"
    )
    bits: Literal[8, 16] = Field(8, description="Bits per stored log-probability")
    temperatures: list[Annotated[float, Field(gt=0)]] = Field(
        default_factory=list,
        description="Further loss temperatures, relative to q, that top_k, top_k_tail or sampled must serve",
    )
    tokens: Literal["answer", "all"] = Field(
        "answer", description="Positions scored: those of the answer, or the prompt's too"
    )
    teachers: dict[TeacherName, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="Weights of several teachers whose mixture is the target; each scores the run's text (default: the run's own teacher)",
    )
    hidden: LayerStates | None = Field(
        None, description="Also store hidden states of layers (default: none)"
    )
    seed: NotNegative = Field(0, description="sampled: seed of the draws")

    @checked(mode="after")
    def _consistent(self) -> "Cache":
        if (self.k is not None) != self.scheme.startswith("top_k"):
            raise ValueError("k goes with scheme top_k or top_k_tail, and those need k")
        if (self.draws is not None) != (self.scheme == "sampled"):
            raise ValueError("draws goes with scheme sampled, and scheme sampled needs draws")
        if (self.log_p or self.systematic) and self.scheme != "sampled":
            raise ValueError("log_p and systematic go with scheme sampled")
        if self.temperatures and self.scheme in ("final_hidden", "dense"):
            raise ValueError(f"{self.scheme} serves every temperature; remove temperatures")
        if 1.0 in self.temperatures or len(set(self.temperatures)) < len(self.temperatures):
            raise ValueError("temperatures: name each once, and not 1, which is always served")
        if self.temperatures and self.scheme == "sampled" and not self.log_p:
            raise ValueError("other temperatures of sampled targets need log_p: true")
        if self.teachers and self.scheme == "final_hidden":
            raise ValueError(
                "hidden states of several teachers are no distribution; use top_k, top_k_tail, sampled or dense"
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
        description="Student layer: teacher layer, e.g. {1: 8, 2: 15}; 0 is the embeddings, `last` a student's last layer whatever its depth",
    )


class EmbeddingLoss(Section):
    """Match the final hidden states, through a learned projection."""

    weight: Annotated[float, Field(gt=0)] = Field(1.0, description="Weight of this loss")
    loss: Literal["mse", "cosine"] = Field(
        "mse", description="Mean squared error, or 1 minus the cosine similarity"
    )
    head: Literal["own", "teacher"] = Field(
        "own",
        description="The trained student's output head: `own` is trained by its other losses alone; `teacher` is the teacher's applied to the projection, saved as the student's",
    )


class OnPolicy(Section):
    """Ask the teacher itself while training, also about answers that the student writes (GKD,
    Agarwal 2024); no cache is read."""

    share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5,
        description="Share of the updates, evenly spaced, whose answers the student samples to the same prompts at its weights of that moment; the others learn the text's",
    )
    temperature: Annotated[float, Field(gt=0)] = Field(1.0, description="Of the student's sampling")
    max_tokens: Positive = Field(128, description="Longest answer that it samples, in tokens")


CHUNK = 64
"""Tokens per chunk of a corpus unless a method says otherwise."""


class _HardLoss(Section):
    ce: Weight = Field(0.0, description="Cross-entropy on the text's answer tokens")


def _divergence_fields() -> dict[str, Any]:
    """Per divergence its weight and, if it has one, its parameter."""
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
        description="For students with another tokenizer: spans of text that both cut alike, by the next word where both have one token (as GOLD in TRL), else by their likelihood (ALM, Minixhofer 2025)",
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        1.0,
        description="Divides both models' logits (the teacher's on top of its own temperature); soft losses are multiplied by its square",
    )
    tokens: Literal["answer", "all"] = Field(
        "answer", description="Where soft losses act: on the answer, or on the prompt too"
    )
    hidden: LayerLoss | None = Field(None, description="Match hidden states of layers")
    embedding: EmbeddingLoss | None = Field(None, description="Match the last hidden states")
    on_policy: OnPolicy | None = Field(
        None, description="Use a live teacher, on the student's own answers too"
    )
    corpus: DataSource | None = Field(
        None,
        description="Train without a teacher: data source with a text field, whose chunks take the place of responses; goes with ce alone",
    )
    corpus_tokens: Positive = Field(
        CHUNK, description="corpus: tokens per chunk, all of them learned"
    )
    train: dict[str, Any] = Field(
        default_factory=dict, description="Entries of `train` that differ for this method"
    )
    search: SearchName | None = Field(
        None, description="Take method and settings from the best trial of this search"
    )

    @checked(mode="after")
    def _some_loss(self) -> "Method":
        given = self.weights or self.hidden or self.embedding
        if self.search is not None:
            if self.model_dump(exclude_defaults=True).keys() - {"search"}:
                raise ValueError("a method with search has no other key: the search sets them")
        elif not given:
            raise ValueError("give at least one loss a weight above 0, such as ce: 1.0")
        if self.spans and len(self.soft) > 1:
            raise ValueError(
                "spans goes with ce alone: the other soft losses compare token with token; remove those or spans"
            )
        if self.corpus is not None and self.soft:
            raise ValueError(
                f"no teacher wrote the corpus {self.corpus}, so there are no soft targets for {', '.join(self.soft)}; a method with corpus has ce alone"
            )
        if self.corpus is None and self.corpus_tokens != CHUNK:
            raise ValueError("corpus_tokens goes with corpus: name a data source there")
        return self

    @checked(mode="after")
    def _live(self) -> "Method":
        if self.on_policy is None:
            return self
        if other := [name for name in self.soft if name not in DIVERGENCES]:
            raise ValueError(
                f"on_policy compares distributions over the same words, which {other[0]} does not; remove {other[0]}, or on_policy"
            )
        if not self.soft:
            raise ValueError(
                f"on_policy needs a divergence from the teacher; give one of {', '.join(DIVERGENCES)} a weight above 0"
            )
        if self.ce and self.on_policy.share == 1:
            raise ValueError(
                "ce learns the text's answers, of which on_policy.share: 1 leaves none; lower share or remove ce"
            )
        return self

    @property
    def weights(self) -> dict[str, float]:
        """Losses on the distribution with a weight above 0."""
        return {name: getattr(self, name) for name in LOSSES if getattr(self, name) > 0}

    @property
    def soft(self) -> list[str]:
        """Its losses that need soft targets."""
        found = [name for name in self.weights if name != "ce"]
        return found + [name for name in ("hidden", "embedding") if getattr(self, name)]

    @property
    def infinite_at_zero(self) -> bool:
        """Whether it is infinite where the teacher rules out a token."""
        values = self.model_dump()
        rows = (DIVERGENCES[name] for name in self.soft if name in DIVERGENCES)
        return any(row.infinite_with(values) for row in rows)

    @property
    def reads_cache(self) -> bool:
        """Whether its soft targets come from a cache, rather than from a live teacher."""
        return bool(self.soft) and self.on_policy is None


LOSSES = ("ce", *DIVERGENCES, "uld", "spans")
