"""The config's sections of models: teachers and students."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue
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
    StudentName,
    TeacherName,
    Threads,
)
from distill.contracts.dialects.all import DIALECTS


class Trained(Section):
    """The run of this study whose student a teacher is; it need not be listed under `runs`."""

    student: StudentName = Field(description="Which student becomes the teacher")
    teacher: TeacherName | None = Field(
        None,
        description="Whose text it learns; with a method that trains on a corpus, whose text judges it (default: the teacher's own)",
    )
    method: MethodName = Field(description="How it learns")
    cache: CacheName | None = Field(None, description="Its soft targets, if the method needs them")
    curation: CurationName = Field("raw", description="Which rows it learns")
    samples: Samples = Field(description="How many")
    draw: NotNegative = Field(0, description="In which order of the pool")
    seed: NotNegative = Field(0, description="Optimiser noise")


class Teacher(Section):
    """A sampling distribution: a model at a temperature, here or on a server. Or ready-made text of a
    data source, with a model to score it or without."""

    source: ModelSource | None = Field(
        None, description="Model source; without `text` it writes the responses"
    )
    trained: Trained | None = Field(
        None, description="Instead of `source`: a student that this study trains"
    )
    text: DataSource | None = Field(
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
    precision: Precision = Field("auto", description=PRECISION)
    quantisation: Literal["none", "int8", "nf4"] = Field(
        "none", description="8- or 4-bit weights by bitsandbytes: another, slightly worse teacher"
    )
    device_map: Literal["auto"] | None = Field(
        None, description="`auto` spreads a teacher that is larger than one device"
    )
    gpus: Positive = Field(
        1,
        description="GPUs per job: with device_map: auto it is spread over so many, with `trained` so many train it; else its parts are made in parallel, each on a GPU",
    )
    seed: NotNegative = Field(0, description="Seed of its sampling")
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
        if self.gpus > 1 and self.device_map is None and self.trained is None:
            raise ValueError(
                "gpus is for a teacher that is spread over several (device_map: auto) or trained by the study (trained); remove it: the parts of a teacher's text are made in parallel, each on a GPU"
            )
        return self

    def _check_served(self, server: Server) -> None:
        if self.has_model and (server.tokenizer or server.top_logprobs):
            raise ValueError(
                "server.tokenizer and server.top_logprobs are for a teacher without a model here; remove them, its own tokenizer and distribution are used"
            )
        local = {"batch_size", "precision", "quantisation", "device_map", "gpus", "threads"}
        if not self.has_model and (given := sorted(local & self.model_fields_set)):
            raise ValueError(f"{given[0]} is the server's own affair; remove it")
        if self.top_k and not DIALECTS[server.software].takes_top_k:
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
    def text_tokenizer(self) -> str | None:
        """Model source of its text's tokens, if these are not those of its model."""
        return self.server.tokenizer if self.server else None

    @property
    def has_tokens(self) -> bool:
        """Whether its text comes with token ids."""
        return self.has_model or self.text_tokenizer is not None

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
    teacher: TeacherName = Field(
        description="Ids are counted in this teacher's text for the validation prompts"
    )


class Student(Section):
    """A student before training: initialisation belongs to the student, signal to the method."""

    init: Literal["cut", "pretrained", "random"] = Field(
        description="How it starts: `cut` (layers of a model), `pretrained` (a model as it is) or `random`"
    )
    source: ModelSource = Field(
        description="Model source: layers (cut), weights (pretrained), tokenizer and default architecture (random)"
    )
    layers: Positive | None = Field(None, description="cut: how many evenly spaced layers to keep")
    config: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="random: entries of the Hugging Face config, e.g. num_hidden_layers, hidden_size, model_type",
    )
    seed: NotNegative = Field(0, description="random: seed of the weights")
    params: Positive | None = Field(
        None,
        description="random: its exact parameters, tied ones once; checked before anything is built where model_type is bert and all sizes are given, else when it is built",
    )
    vocabulary: VocabularySize | None = Field(
        None, description="Trim the vocabulary (default: the whole one)"
    )
    gpus: Positive = Field(
        1,
        description="GPUs that train it together, data-parallel: batch_size stays, each takes its share (without a GPU: so many processes, of train.threads CPU threads each)",
    )

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
