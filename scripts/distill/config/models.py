"""The config's sections on models: teachers and students."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue, StringConstraints
from pydantic import model_validator as checked

from distill.config.families import closed_form
from distill.config.server import Server
from distill.config.values import (
    PRECISION,
    CacheName,
    CurationName,
    DataSource,
    MethodName,
    ModelSource,
    NotNegative,
    Positive,
    Precision,
    Probability,
    Samples,
    Section,
    Seed,
    StudentName,
    TeacherName,
    Threads,
)
from distill.contracts.dialects.all import DIALECTS


class Trained(Section):
    """The run whose student becomes a teacher; it need not be listed under `runs`."""

    student: StudentName = Field(description="Student that becomes the teacher")
    teacher: TeacherName | None = Field(
        None,
        description="Teacher whose text it learns; with a method that trains on a corpus, teacher whose text evaluates it (default: this teacher)",
    )
    method: MethodName = Field(description="Method that trains it")
    cache: CacheName | None = Field(None, description="Soft targets, if the method needs them")
    curation: CurationName = Field("raw", description="Curation of its training rows; raw: all")
    samples: Samples = Field(description="Size of its training set")
    draw: NotNegative = Field(0, description="Draw of its training set")
    seed: Seed = Field(0, description="Seed of training, for data order and dropout")


class Teacher(Section):
    """A sampling distribution: a local or served model at a temperature. Or ready-made text of a
    data source, with or without a model that scores it."""

    source: ModelSource | None = Field(
        None, description="Model source; without `text` this model generates the responses"
    )
    trained: Trained | None = Field(
        None, description="Instead of `source`: a student that this study trains"
    )
    text: DataSource | None = Field(
        None,
        description="Data source with a response field: its responses are the text, and the model (if any) only scores them",
    )
    server: Server | None = Field(
        None,
        description="Server that generates the responses; the model (if any) is a local copy of the served one and only scores them",
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        1.0, description="Temperature of the text and the soft targets"
    )
    top_k: NotNegative = Field(0, description="0: no cut (a cut is for published studies only)")
    top_p: Probability = Field(1.0, description="1: no cut (a cut is for published studies only)")
    max_tokens: Positive = Field(128, description="Longest response in tokens")
    stop: list[Annotated[str, StringConstraints(min_length=1)]] = Field(
        default_factory=list,
        max_length=16,
        description='Texts that end a response, beside the model\'s own ends of turn, e.g. ["\\nQuestion:"]; the response is what comes before',
    )
    chat_template_kwargs: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Variables of the chat template, e.g. {enable_thinking: false}; its students are trained and evaluated with them too",
    )
    thinking: Literal["train", "keep", "drop"] | None = Field(
        None,
        description="What becomes of a reasoning model's thinking: `train`: part of the response; `keep`: before the response, but not learned; `drop`: removed (default: train; of a server that reports it apart, drop)",
    )
    thinking_end: Annotated[str, StringConstraints(min_length=1)] = Field(
        "</think>", description="Text that ends the thinking"
    )
    batch_size: Positive = Field(128, description="Responses decoded per batch")
    precision: Precision = Field("auto", description=PRECISION)
    quantisation: Literal["none", "int8", "nf4"] = Field(
        "none",
        description="8- or 4-bit weights by bitsandbytes; the quantised model is a different, slightly worse teacher",
    )
    device_map: Literal["auto"] | None = Field(
        None, description="`auto` splits a teacher that exceeds one device over several"
    )
    gpus: Positive = Field(
        1,
        description="GPUs per job: with device_map: auto the teacher is split over them, with `trained` they train it together; otherwise keep 1, because parts of the text are parallel jobs with one GPU each",
    )
    seed: NotNegative = Field(0, description="Seed of sampling")
    threads: Threads = Field(1, description="CPU threads per job; results depend on it slightly")
    pretraining_tokens: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Tokens that the teacher was trained on, to estimate its training FLOPs"
    )

    @checked(mode="after")
    def _an_origin(self) -> "Teacher":
        if self.source is not None and self.trained is not None:
            raise ValueError("give source (a model) or trained (a student of this study), not both")
        if self.server is not None and (self.text is not None or self.trained is not None):
            other = "trained" if self.text is None else "text"
            raise ValueError(f"give server (which generates the responses) or {other}, not both")
        if not self.has_model and self.text is None and self.server is None:
            raise ValueError(
                "give source (a model), trained (a student of this study), text (ready-made responses) or server, or text or server with a model"
            )
        if self.server is not None:
            self._check_served(self.server)
        if self.text is not None and (self.stop or self.thinking):
            key = "stop" if self.stop else "thinking"
            raise ValueError(f"{key} has no effect on the responses of a data set; remove it")
        if self.thinking == "drop" and self.cuts and self.has_model:
            raise ValueError(
                "thinking: drop needs the whole distribution: without its thinking, a response may hold tokens outside top_k and top_p; remove these cuts"
            )
        if self.gpus > 1 and self.device_map is None and self.trained is None:
            raise ValueError(
                "gpus needs device_map: auto (a teacher split over several GPUs) or trained (a teacher that the study trains); remove it: parts of a teacher's text are parallel jobs with one GPU each"
            )
        return self

    def _check_served(self, server: Server) -> None:
        if self.has_model and (server.tokenizer or server.top_logprobs):
            raise ValueError(
                "server.tokenizer and server.top_logprobs are for a teacher without a local model; remove them, the local model gives both"
            )
        local = {"batch_size", "precision", "quantisation", "device_map", "gpus", "threads"}
        if not self.has_model and (keys := sorted(local & self.model_fields_set)):
            raise ValueError(f"{keys[0]} has no effect on a served model; remove it")
        for key in {"stop", "chat_template_kwargs"} & {*self.model_fields_set} & {*server.extra}:
            raise ValueError(f"{key} is set here and in server.extra; keep one of them")
        if self.thinking == "keep":
            raise ValueError(
                "thinking: keep needs a local model, whose tokens are known; use drop or train"
            )
        if self.top_k and not DIALECTS[server.software].takes_top_k:
            raise ValueError(
                "top_k is not a field of OpenAI's protocol; remove it, or set server.software to one that has it"
            )
        if server.top_logprobs and (self.temperature != 1 or self.top_k or self.top_p < 1):
            raise ValueError(
                "server.top_logprobs needs temperature 1 without top_k and top_p: some servers apply these before they report log-probabilities and some after, and a few log-probabilities cannot be converted; remove it, or let a local model score the text (source)"
            )

    @property
    def has_model(self) -> bool:
        """Whether the teacher has a local model, which generates or scores its text."""
        return self.source is not None or self.trained is not None

    @property
    def cuts(self) -> bool:
        """Whether top_k or top_p gives some tokens probability 0."""
        return bool(self.top_k) or self.top_p < 1

    @property
    def text_tokenizer(self) -> str | None:
        """Model source of the text's tokenizer, if it is not that of the teacher's model."""
        return self.server.tokenizer if self.server else None

    @property
    def template_settings(self) -> dict[str, JsonValue]:
        """Variables of the chat template, those that a server gets included."""
        served: JsonValue = self.server.extra.get("chat_template_kwargs") if self.server else None
        return self.chat_template_kwargs or (served if isinstance(served, dict) else {})

    @property
    def has_tokens(self) -> bool:
        """Whether the text has token ids."""
        return self.has_model or self.text_tokenizer is not None

    @property
    def origin(self) -> Literal["model", "data", "server"]:
        """Where the text comes from: the model itself, a data set, or a server."""
        return "data" if self.text is not None else "server" if self.server else "model"

    @property
    def writes(self) -> bool:
        """Whether the local model generates the text."""
        return self.origin == "model"


class VocabularySize(Section):
    """A smaller vocabulary for a student: the most frequent ids, and one class for all others."""

    size: Annotated[int, Field(gt=1)] = Field(description="Number of ids, including special ones")
    teacher: TeacherName = Field(
        description="Ids are counted in this teacher's text for the validation prompts"
    )


class Student(Section):
    """A student before training: architecture and initialisation; the method defines its loss."""

    init: Literal["cut", "pretrained", "random"] = Field(
        description="Initialisation: `cut` (some layers of a model), `pretrained` (a whole model) or `random`"
    )
    source: ModelSource = Field(
        description="Model source of the layers (cut), the weights (pretrained), or the tokenizer and default architecture (random)"
    )
    layers: Positive | None = Field(None, description="cut: number of evenly spaced layers")
    config: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="random: entries of the Hugging Face config, e.g. num_hidden_layers, hidden_size, model_type",
    )
    seed: NotNegative = Field(0, description="random: seed of the weights")
    params: Positive | None = Field(
        None,
        description="random: exact number of parameters, counting tied ones once; checked before any job starts if model_type is bert and all sizes are given, else when the student is built",
    )
    vocabulary: VocabularySize | None = Field(
        None, description="Trim the vocabulary (default: the full vocabulary)"
    )
    gpus: Positive = Field(
        1,
        description="GPUs that train it together, data-parallel: they share each batch of batch_size (without a GPU: number of processes, with train.threads CPU threads each)",
    )

    @checked(mode="after")
    def _consistent(self) -> "Student":
        if (self.init == "cut") != (self.layers is not None):
            raise ValueError("layers needs init: cut, and init: cut needs layers")
        if (self.init == "random") != bool(self.config):
            raise ValueError("config needs init: random, and init: random needs config")
        if self.params is not None and (self.init != "random" or self.vocabulary is not None):
            raise ValueError("params needs init: random and a full vocabulary; remove it")
        count = closed_form(self.config)
        if self.params is not None and count is not None and count != self.params:
            raise ValueError(
                f"params is {self.params} but config defines {count} parameters; correct one of them"
            )
        return self
