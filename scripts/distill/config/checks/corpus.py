"""Checks of a study with a corpus: settings that the corpus tasks do not support."""

from collections.abc import Iterator

from distill.config.study import Study
from distill.config.text import Corpus


def read_length(study: Study, corpus: Corpus) -> int:
    """Tokens of a chunk as a model reads it, including the special tokens around it."""
    return corpus.length + (2 if study.mask else 1)


def corpus_problems(study: Study) -> list[str]:
    """Report settings that a study with a corpus does not support, one sentence each."""
    return [] if study.corpus is None else [*_problems(study, study.corpus)]


def _problems(study: Study, corpus: Corpus) -> Iterator[str]:
    for name in filter(None, (corpus.source, corpus.test_source, corpus.validation_source)):
        if "text" not in study.sources[name].columns:
            yield f"sources.{name}.fields: name the text column of the corpus"
    held = [name for name in (corpus.test_source, corpus.validation_source) if name]
    if corpus.source in held or len(set(held)) < len(held):
        yield (
            "corpus: source, test_source and validation_source must differ; remove test_source or "
            "validation_source to hold out a share of the documents instead"
        )
    reference = study.evaluate.reference
    if reference is not None and reference.source in (corpus.source, *held):
        yield (
            f"evaluate.reference.source: {reference.source} is the corpus itself; remove reference "
            "(held-out chunks take its place), or name another text"
        )
    yield from _teacher_problems(study)
    yield from _method_problems(study)
    for name, curation in study.curations.items():
        if curation.length or curation.corrupt:
            key = "length" if curation.length else "corrupt"
            yield (
                f"curations.{name}.{key} is for answers to prompts, but chunks of a corpus have equal "
                "length and stay unchanged; use language, teacher_loss or near_duplicates"
            )
    needed = read_length(study, corpus)
    entries = {"train": study.train.max_length}
    for name, method in study.methods.items():
        if "max_length" in method.train:
            entries[f"methods.{name}.train"] = method.train["max_length"]
    for key, length in entries.items():
        if isinstance(length, int) and length < needed:
            yield (
                f"{key}.max_length: a chunk with its special tokens has {needed} tokens, more than "
                f"{length}; raise that or lower corpus.length"
            )


def _teacher_problems(study: Study) -> Iterator[str]:
    for name, teacher in study.teachers.items():
        if teacher.text is not None:
            yield f"teachers.{name}.text: every teacher reads the corpus; remove text"
        if teacher.server is not None:
            yield f"teachers.{name}.server: a server cannot score a corpus; give it a source instead"
        if teacher.cuts:
            yield (
                f"teachers.{name}: remove top_k and top_p: on a corpus they make the teacher's loss "
                "infinite"
            )


def _method_problems(study: Study) -> Iterator[str]:
    masked = study.mask is not None
    for name, method in study.methods.items():
        if method.corpus is not None:
            yield (
                f"methods.{name}.corpus: every method of this task learns the study's corpus; remove "
                "it (a method with ce only trains without a teacher)"
            )
        if method.uld or method.spans:
            key = "uld" if method.uld else "spans"
            yield (
                f"methods.{name}.{key} is for different tokenizers, but all models of a corpus share "
                "one; use another loss"
            )
        if method.on_policy is not None:
            yield (
                f"methods.{name}.on_policy: students answer prompts, but a corpus has none; remove "
                "on_policy and name a cache in the method's runs"
            )
        if masked and method.embedding is not None:
            yield (
                f"methods.{name}.embedding: the head of a masked model has further layers; match "
                "the last layers with hidden: {layers: {last: <teacher's layers>}}"
            )
        if masked and method.tokens == "all":
            yield f"methods.{name}.tokens: only masked tokens are predicted; remove tokens: all"
    for name, cache in study.caches.items():
        if masked and cache.tokens == "all":
            yield f"caches.{name}.tokens: only masked tokens are predicted; remove tokens: all"
    if masked and study.evaluate.benchmarks:
        yield (
            "evaluate.benchmarks: the harness evaluates causal models only; remove benchmarks from a study with masked models"
        )
    for name, student in study.students.items():
        if masked and student.vocabulary is not None:
            yield (
                f"students.{name}.vocabulary: the vocabulary of a masked model cannot be trimmed, "
                "because its head is more than one matrix; remove vocabulary"
            )
