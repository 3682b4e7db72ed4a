"""Checks of local models before the first job, from their JSON files and the headers of weights."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from distill.config.models import Student
from distill.config.row_counts import known_rows, least_rows
from distill.config.study import Study
from distill.contracts.run import MAGPIE, Run
from distill.core.attention_heads import heads_fault
from distill.core.chat_templates import refusal_of_system
from distill.core.display import listed
from distill.core.errors import UserError
from distill.core.model_files import (
    ADAPTER,
    NO_MODEL_TYPE,
    base_model,
    chat_template,
    context_of,
    depth_of,
    embedding_rows,
    encoder_decoder_fault,
    fills_masks,
    gguf_file,
    has_chat_template,
    has_tokenizer,
    later_tokens_fault,
    missing_weights,
    read_object,
    sees_later_tokens,
    weight_shapes,
    weights_fault,
)
from distill.core.quantised_models import quantisation_fault
from distill.core.tokenizer_files import ends_no_turn, plain_tokens_beyond, tokens_beyond
from distill.plan.needed import needed_runs, needed_searches, needed_students
from distill.plan.study import Plan

TIMED_PROMPT = 32
"""Tokens of the prompt of a timed generation (`distill.evaluation.latency`)."""


def check_models(plan: Plan) -> None:
    """Check the models that lie on disk: local ones, and those that an earlier run fetched.

    Raises:
        UserError: One sentence per setting that a model cannot meet.
    """
    models = UsedModels(plan)
    problems = [*_file_problems(models)]
    if not problems:
        problems = [
            *_architecture_problems(models),
            *_token_problems(models),
            *_text_problems(models),
            *_layer_problems(models),
            *_target_problems(models),
            *_context_problems(models),
        ]
    if problems:
        raise UserError("\n".join(f"config: {line}" for line in dict.fromkeys(problems)))


class UsedModels:
    """The models of a study's sources that its runs use, as far as they lie on disk."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.study = plan, plan.study

    @property
    def asks(self) -> bool:
        """Whether models answer prompts."""
        return self.plan.pool.asks

    @cached_property
    def runs(self) -> list[Run]:
        """Runs that train a student, also in a search; the first of each student and method with
        each teacher and cache."""
        searches = map(self.plan.searches.run, needed_searches(self.plan))
        runs = [run for run in (*needed_runs(self.plan), *searches) if run.samples]
        keys = {(run.student, run.method, run.teacher, run.cache): run for run in reversed(runs)}
        return sorted(keys.values())

    @cached_property
    def students(self) -> dict[str, Student]:
        """Students that are built, by name."""
        return {name: self.study.students[name] for name in needed_students(self.plan)}

    @cached_property
    def teachers(self) -> dict[str, str]:
        """Model source of each teacher with one that generates or scores text, by teacher."""
        names = [run.teacher for run in self.runs]
        names += [
            student.vocabulary.teacher for student in self.students.values() if student.vocabulary
        ]
        caches = {run.cache for run in self.runs} & {*self.study.caches}
        names += [name for cache in sorted(caches) for name in self.study.caches[cache].teachers]
        names += [self.study.rows.teacher] if self.asks and self.study.rows.teacher else []
        entries = {name: self.study.teachers[name] for name in dict.fromkeys(names)}
        return {name: entry.source for name, entry in entries.items() if entry.source}

    @cached_property
    def adapters(self) -> dict[str, Path]:
        """Folder of each used local adapter, by source."""
        return {
            name: folder for name, folder in self._places.items() if (folder / ADAPTER).is_file()
        }

    @cached_property
    def folders(self) -> dict[str, Path]:
        """Folder of each used model source that is a model on disk, by source."""
        return {
            name: folder
            for name, folder in self._places.items()
            # What is no model yet is left to the job that fetches it.
            if "model_type" in read_object(folder / "config.json")
            and not (folder / ADAPTER).is_file()
            and not gguf_file(folder)
        }

    @cached_property
    def unnamed(self) -> list[str]:
        """Used local sources whose config.json names no architecture."""
        configs = {name: folder / "config.json" for name, folder in self._places.items()}
        return [
            name
            for name, file in configs.items()
            if file.is_file() and name not in {*self.folders, *self.adapters}
            if not gguf_file(file.parent)
        ]

    @cached_property
    def _places(self) -> dict[str, Path]:
        """Where each used model source lies, if on disk."""
        names = [*self.teachers.values(), *(student.source for student in self.students.values())]
        names += [
            tokenizer
            for name in self.plan.text.by_key.values()
            if (tokenizer := self.study.teachers[name].text_tokenizer)
        ]
        names += [self.study.corpus.tokenizer] if self.study.corpus else []
        places = {name: self._folder(name) for name in dict.fromkeys(names)}
        return {name: folder for name, folder in places.items() if folder is not None}

    @cached_property
    def formatting(self) -> set[str]:
        """Model sources whose own tokenizer formats prompts.

        A student that shares tokens with a teacher's text is saved with the teacher's tokenizer
        and chat template; whether it does is known when it is opened.
        """
        teachers = self.study.teachers
        names = {*self.teachers.values()}
        names |= {entry.text_tokenizer for entry in teachers.values() if entry.text_tokenizer}
        searches = map(self.plan.searches.run, needed_searches(self.plan))
        return names | {
            self.study.students[run.student].source
            for run in (*needed_runs(self.plan), *searches)
            if not teachers[run.teacher].has_tokens
        }

    def _folder(self, name: str) -> Path | None:
        """The folder of a local model, or of one that an earlier run fetched."""
        if path := self.study.sources[name].path:
            return Path(path)
        manifest = Path(self.plan.sources.manifest(name))
        return manifest.parent if manifest.is_file() else None

    @cached_property
    def configs(self) -> dict[str, dict[str, Any]]:
        """The config.json of each of `folders`."""
        return {name: read_object(folder / "config.json") for name, folder in self.folders.items()}

    def student_config(self, name: str) -> dict[str, Any]:
        """What is known of a student's config.json; empty if its source is not on disk."""
        student = self.students[name]
        config = self.configs.get(student.source, {})
        if student.init != "random" or not config:
            return config
        kind = config.get("model_type")
        same = student.config.get("model_type", kind) == kind
        return (config if same else {}) | student.config

    def student_depth(self, name: str) -> int | None:
        """Number of layers of a student, if known."""
        return self.students[name].layers or depth_of(self.student_config(name))


def _file_problems(models: UsedModels) -> Iterator[str]:
    """Report models without files that every study needs."""
    study = models.study
    chat = models.asks and (study.rows.template == "chat" or study.rows.source == MAGPIE)
    without: list[str] = []
    for name, folder in models.adapters.items():
        if study.sources[name].base is None and base_model(folder) is None:
            yield (
                f"sources.{name}.path: {folder} is an adapter, and its base model is not a local "
                f"folder; add the base model to sources and name that source as sources.{name}.base"
            )
    for name in models.unnamed:
        yield f"sources.{name}.path: the model in {study.sources[name].path} {NO_MODEL_TYPE}"
    for name, folder in models.folders.items():
        if found := missing_weights(folder):
            index, missing = found
            yield (
                f"sources.{name}.path: {index} of {folder} names {listed(missing)}, which "
                f"{'is' if len(missing) == 1 else 'are'} missing; copy the model's missing files"
            )
        elif fault := weights_fault(folder):
            yield f"sources.{name}.path: the model in {folder} {fault}"
        if fault := quantisation_fault(folder):
            yield f"sources.{name}.path: the model in {folder} {fault}"
        if not has_tokenizer(folder):
            yield (
                f"sources.{name}.path: {folder} has no tokenizer (such as tokenizer.json); copy "
                "the tokenizer's files of the same model there"
            )
        elif chat and name in models.formatting and not has_chat_template(folder):
            without.append(f"sources.{name} ({folder})")
        elif chat and name in models.formatting and study.rows.system:
            template = chat_template(folder)
            if template and (reason := refusal_of_system(template)):
                yield (
                    f"prompts.system: the chat template of sources.{name} ({folder}) takes no "
                    f"system text ({reason}); remove prompts.system, or set prompts.template to "
                    "alpaca or to a text with {prompt}"
                )
    if without:
        magpie = ", and prompts.source to a data set" if study.rows.source == MAGPIE else ""
        yield (
            "prompts.template: chat needs a chat template, but the tokenizer of "
            f"{' and of '.join(without)} has none; set prompts.template to alpaca or to a text "
            f"with {{prompt}}{magpie}"
        )


def _architecture_problems(models: UsedModels) -> Iterator[str]:
    """Report models of a kind that the study cannot use, and heads that no student can have."""
    masked = models.study.mask is not None
    used = {*models.teachers.values(), *(student.source for student in models.students.values())}
    for name, config in models.configs.items():
        where, kind = f"sources.{name}.path: the model in {models.folders[name]}", "model_type"
        fills = fills_masks(config)
        if config.get("is_encoder_decoder"):
            yield f"{where} {encoder_decoder_fault(config[kind])}"
        elif name in used and fills is not None and fills != masked:
            is_kind, other = ("masked", "causal") if fills else ("causal", "masked")
            yield (
                f"{where} is a {is_kind} language model ({config[kind]}), but task is "
                f"{models.study.task}; name a {other} model, or set another task"
            )
        elif not masked and name in used and not fills and sees_later_tokens(config):
            yield f"{where} {later_tokens_fault(config[kind])}"
    for name, student in models.students.items():
        source = models.configs.get(student.source, {})
        student_kind = student.config.get("model_type", source.get("model_type"))
        base = source if source.get("model_type") == student_kind else {}
        entries = {**base, "model_type": student_kind, **student.config}
        if not masked and student.config and sees_later_tokens(entries):
            yield f"students.{name}.config: this {later_tokens_fault(student_kind)}"
        elif student.config and (fault := heads_fault(student_kind, student.config, base)):
            yield f"students.{name}.config: {fault}"


def _token_problems(models: UsedModels) -> Iterator[str]:
    """Report models that cannot read a prompt's control tokens, or that never end an answer."""
    teachers = {source: name for name, source in models.teachers.items()}
    for name in models.folders if models.asks else ():
        if name not in models.formatting:
            continue
        folder, config = models.folders[name], models.configs[name]
        formatting = models.plan.pool.formatting
        if name in teachers:
            formatting = models.plan.teachers.formatting(teachers[name])
        where, rows = f"sources.{name}.path: the model in {folder}", embedding_rows(config)
        if rows and (beyond := tokens_beyond(folder, rows, formatting)):
            yield (
                f"{where} holds {rows} ids, too few for {listed(beyond)}, which every prompt has; "
                "resize the model (resize_token_embeddings), or set prompts.template to alpaca or "
                "to a text with {prompt}"
            )
        elif ends_no_turn(folder, config, formatting):
            yield (
                f"{where} has no token that ends an answer; set eos_token in its "
                "tokenizer_config.json, or eos_token_id in its generation_config.json"
            )


def _text_problems(models: UsedModels) -> Iterator[str]:
    """Report models that cannot read so many prompts of local data that a study must take one."""
    prompts, study = models.plan.pool.settings, models.study
    source = study.sources.get(prompts.source) if models.asks else None
    if source is None or source.path is None:
        return
    for name in models.folders:
        rows = embedding_rows(models.configs[name]) if name in models.formatting else None
        beyond = plain_tokens_beyond(models.folders[name], rows) if rows else []
        if not beyond:
            continue
        known = known_rows(study, prompts.source, prompts.max_tokens)
        texts = _texts(study.source_spec(prompts.source)) if known else []
        unread = sum(any(token in text for token in beyond) for text in texts)
        if known and known.fitting - unread < least_rows(prompts):
            yield (
                f"sources.{name}.path: the embeddings of the model in {models.folders[name]} hold "
                f"{rows} ids, too few for {listed(beyond)}, which {unread} of {len(texts)} prompts "
                f"of {source.path} have; resize the model (resize_token_embeddings), or remove "
                "these tokens from its tokenizer"
            )


def _texts(spec: Mapping[str, Any]) -> list[str]:
    """The prompts of a data set in local files."""
    from distill.core.rows.lengths import whole_prompt
    from distill.core.rows.reading import DataSet

    return [whole_prompt(row) for row in DataSet(spec).rows()]


def _layer_problems(models: UsedModels) -> Iterator[str]:
    """Report layers that a student keeps, or that a loss matches, of a model that has fewer."""
    for name, student in models.students.items():
        depth = depth_of(models.configs.get(student.source, {}))
        if student.layers and depth and student.layers > depth:
            yield (
                f"students.{name}.layers: {student.layers} layers cannot be cut from "
                f"{student.source}, which has {depth}; lower layers"
            )
    for run in models.runs:
        method = models.study.method_of(run.method)
        if method.hidden is None:
            continue
        depth = models.student_depth(run.student)
        numbers = [layer for layer in method.hidden.layers if isinstance(layer, int)]
        if depth and numbers and max(numbers) > depth:
            yield (
                f"methods.{run.method}.hidden.layers: the student's layer {max(numbers)} is "
                f"matched, but students.{run.student} has {depth}; lower it"
            )
    for run in models.runs:
        cache = models.study.caches.get(run.cache)
        depth = depth_of(models.configs.get(models.teachers.get(run.teacher, ""), {}))
        if cache and cache.hidden and depth and max(cache.hidden.layers) > depth:
            yield (
                f"caches.{run.cache}.hidden.layers: layer {max(cache.hidden.layers)} is stored, "
                f"but teachers.{run.teacher} has {depth}; lower it"
            )


def _target_problems(models: UsedModels) -> Iterator[str]:
    """Report names of modules that get adapters, but that a student does not have."""
    modules_of: dict[str, list[str]] = {}
    for run in models.runs:
        lora = models.study.train_of(run.method).lora
        if lora is None or isinstance(lora.targets, str):
            continue
        if run.student not in modules_of:
            modules_of[run.student] = _modules(models, run.student)
        modules = modules_of[run.student]
        missing = [
            target
            for target in lora.targets
            if modules and not any(f".{name}".endswith(f".{target}") for name in modules)
        ]
        if missing:
            own = "lora" in models.study.method_of(run.method).train
            key = f"methods.{run.method}.train" if own else "train"
            names = dict.fromkeys(name.rpartition(".")[2] for name in modules)
            yield (
                f"{key}.lora.targets: no module of students.{run.student} is named "
                f"{' or '.join(map(repr, missing))}; there are {listed(names)}"
            )


def _modules(models: UsedModels, name: str) -> list[str]:
    """Modules of a student with a matrix, by the weights of its source; empty if unknown."""
    student = models.students[name]
    config = models.configs.get(student.source, {})
    kind = config.get("model_type")
    other_kind = student.config.get("model_type", kind) != kind
    # The library merges the experts of a checkpoint, so modules have other names than weights.
    if student.source not in models.folders or other_kind or any("expert" in key for key in config):
        return []
    shapes = weight_shapes(models.folders[student.source])
    found = [key.rpartition(".")[0] for key, shape in shapes.items() if len(shape) == 2]
    return [*found, "lm_head"] if found else []  # a tied head is not stored


def _context_problems(models: UsedModels) -> Iterator[str]:
    """Report settings that surely exceed the context of a model."""
    study = models.study
    contexts = {name: context_of(config) for name, config in models.configs.items()}
    for name in models.teachers:
        context = contexts.get(models.teachers[name])
        for tokens, what, remedy in _teacher_needs(models, name) if context else ():
            if tokens > (context or tokens):
                yield _too_long(f"teachers.{name}", context, tokens, what, remedy)
    readers = {f"teachers.{name}": contexts.get(source) for name, source in models.teachers.items()}
    readers |= {
        f"students.{name}": context_of(models.student_config(name)) for name in models.students
    }
    chunk = models.plan.pool.chunk
    for name, context in readers.items():
        for tokens, what, remedy in _reader_needs(study, chunk.read if chunk else None):
            if context and tokens > context:
                yield _too_long(name, context, tokens, what, remedy)


def _too_long(name: str, context: int | None, tokens: int, what: str, remedy: str) -> str:
    return f"{remedy}: {name} reads at most {context} tokens, but {what} {tokens}; lower it"


def _teacher_needs(models: UsedModels, name: str) -> Iterator[tuple[int, str, str]]:
    """Least tokens that a teacher must read to generate, why, and the key to lower."""
    rows, entry = models.study.rows, models.study.teachers[name]
    if models.asks and models.study.rows.teacher == name:
        yield 4 * rows.max_tokens, "generated prompts may take", "prompts.max_tokens"
    if models.asks and entry.writes:
        if rows.source == MAGPIE:
            needed, what = rows.max_tokens + entry.max_tokens, "a prompt and its answer may take"
        else:
            needed, what = 1 + entry.max_tokens, "an answer and one token before it may take"
        yield needed, what, f"teachers.{name}.max_tokens"


def _reader_needs(study: Study, chunk: int | None) -> Iterator[tuple[int, str, str]]:
    """Least tokens that every evaluated model must read, why, and the key to lower."""
    entry = study.evaluate
    if chunk is not None:
        yield chunk, "a chunk with its special tokens has", "corpus.length"
    elif study.prompts is not None:
        what = "an answer and one token before it may take"
        yield 1 + entry.instruction_tokens, what, "evaluate.instruction_tokens"
    if entry.reference is not None:
        what = "a passage may take"
        yield entry.reference.max_tokens + 1, what, "evaluate.reference.max_tokens"
    if study.mask is None:
        what = f"a timed generation, with a prompt of {TIMED_PROMPT} tokens, takes"
        yield TIMED_PROMPT + entry.latency_tokens, what, "evaluate.latency_tokens"
