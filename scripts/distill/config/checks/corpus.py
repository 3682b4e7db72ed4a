"""Checks of a study whose models read a corpus: what does not go with it, before the first job."""

from collections.abc import Iterator

from distill.config.study import Study
from distill.config.text import Corpus


def read_length(study: Study, corpus: Corpus) -> int:
    """Tokens that a model reads of a chunk, those put around it included."""
    return corpus.length + (2 if study.mask else 1)


def corpus_problems(study: Study) -> list[str]:
    """Settings that a corpus has no use for, in words."""
    return [] if study.corpus is None else [*_problems(study, study.corpus)]


def _problems(study: Study, corpus: Corpus) -> Iterator[str]:
    for name in filter(None, (corpus.source, corpus.test_source, corpus.validation_source)):
        if "text" not in (study.sources[name].fields or {}):
            yield f"sources.{name}.fields: name the text column, which the corpus is made of"
    held = [name for name in (corpus.test_source, corpus.validation_source) if name]
    if corpus.source in held or len(set(held)) < len(held):
        yield (
            "corpus: source, test_source and validation_source must differ; leave a held-out one "
            "out to hold back a share of the documents instead"
        )
    reference = study.evaluate.reference
    if reference is not None and reference.source in (corpus.source, *held):
        yield (
            f"evaluate.reference.source: {reference.source} is the corpus itself; leave reference "
            "out (held-out chunks take its place), or name another text"
        )
    yield from _teacher_problems(study)
    yield from _method_problems(study)
    for name, curation in study.curations.items():
        if curation.length or curation.corrupt:
            key = "length" if curation.length else "corrupt"
            yield (
                f"curations.{name}.{key} is for answers to prompts; chunks of a corpus are all of one "
                "length and are learned as they stand: use language, teacher_loss or near_duplicates"
            )
    needed = read_length(study, corpus)
    entries = {"train": study.train.max_length}
    for name, method in study.methods.items():
        if "max_length" in method.train:
            entries[f"methods.{name}.train"] = method.train["max_length"]
    for key, length in entries.items():
        if isinstance(length, int) and length < needed:
            yield (
                f"{key}.max_length: a chunk is {needed} tokens with those around it, more than "
                f"{length}; raise that or lower corpus.length"
            )


def _teacher_problems(study: Study) -> Iterator[str]:
    for name, teacher in study.teachers.items():
        if teacher.text is not None:
            yield f"teachers.{name}.text: every teacher reads the corpus; remove text"
        if teacher.server is not None:
            yield (f"teachers.{name}.server: a server scores no corpus; name a model as its source")
        if teacher.top_k or teacher.top_p < 1:
            yield (
                f"teachers.{name}: top_k and top_p cut the distribution of a teacher that writes; on "
                "a corpus its own loss would be infinite: remove them"
            )


def _method_problems(study: Study) -> Iterator[str]:
    masked = study.mask is not None
    for name, method in study.methods.items():
        if method.corpus is not None:
            yield (
                f"methods.{name}.corpus: every method of this task learns the study's corpus; remove "
                "it (ce alone learns without a teacher)"
            )
        if method.uld or method.spans:
            key = "uld" if method.uld else "spans"
            yield (
                f"methods.{name}.{key} compares tokenizers, but all models of a corpus share one; use "
                "another loss"
            )
        if method.on_policy is not None:
            yield (
                f"methods.{name}.on_policy: students answer prompts there, but a corpus asks nothing; "
                "remove it and name a cache in its runs"
            )
        if masked and method.embedding is not None:
            yield (
                f"methods.{name}.embedding: the head of a masked model has layers of its own; match "
                "the last layers with hidden: {layers: {last: <teacher's layers>}}"
            )
        if masked and method.tokens == "all":
            yield f"methods.{name}.tokens: only masked tokens are predicted; remove tokens: all"
    for name, cache in study.caches.items():
        if masked and cache.tokens == "all":
            yield f"caches.{name}.tokens: only masked tokens are predicted; remove tokens: all"
    if masked and study.evaluate.benchmarks:
        yield (
            "evaluate.benchmarks: the harness asks causal models; remove benchmarks from a study of masked ones"
        )
    for name, student in study.students.items():
        if masked and student.vocabulary is not None:
            yield (
                f"students.{name}.vocabulary: the head of a masked model is more than a matrix, so "
                "its vocabulary cannot be trimmed; remove vocabulary"
            )
