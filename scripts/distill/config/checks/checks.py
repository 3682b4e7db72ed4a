"""Checks of a study before the first job: names that lead nowhere, combinations that cannot work."""

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from distill.config.checks.corpus import corpus_problems
from distill.config.checks.lineage import teacher_loops
from distill.config.checks.served import not_served, served_twice
from distill.config.checks.shares import with_counts
from distill.config.checks.soundness import EVERY_WORD, unsound
from distill.config.methods import Method
from distill.config.reading import check_plain, sentence, validate
from distill.config.study import Block, Study, raw_rows_needed
from distill.config.training import Search, Train
from distill.config.values import MOST_ROWS
from distill.contracts.columns import COLUMNS
from distill.contracts.run import LIVE, MAGPIE, NO_CACHE, RAW
from distill.core.display import short_name
from distill.core.errors import UserError


def parse_study(config: dict[str, Any]) -> Study:
    """Validate a config.

    Raises:
        UserError: One sentence per mistake, each naming its key and the remedy.
    """
    check_plain(config)
    study = validate(Study, with_counts(config))
    if found := _problems(study):
        raise UserError("\n".join(f"config: {line}" for line in found))
    return study


def _unknown(key: str, name: str, table: Mapping[str, Any], what: str) -> str:
    """That a name leads nowhere, with the one that was probably meant."""
    close = difflib.get_close_matches(name, table, 1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(table) or 'none'}"
    return f"{key}: there is no {what} {name!r}; {hint}"


def _problems(study: Study) -> list[str]:
    """Names that lead nowhere and combinations that cannot work, in words."""
    found: list[str] = []

    def known(key: str, name: str, table: dict[str, Any], what: str) -> bool:
        if name in table:
            return True
        found.append(_unknown(key, name, table, what))
        return False

    def source(key: str, name: str, data: bool) -> None:
        if known(key, name, study.sources, "source") and study.sources[name].is_data != data:
            want = "data set (with fields)" if data else "model (without fields)"
            found.append(f"{key}: the source {name!r} must be a {want}")

    found += _part_problems(study)
    found += corpus_problems(study)
    prompts = study.rows
    if study.corpus is None and prompts.source != MAGPIE:
        source("prompts.source", prompts.source, data=True)
        given = study.sources.get(prompts.source)
        if given and given.fields and "prompt" not in given.fields:
            found.append(f"sources.{prompts.source}.fields: name the prompt column")
        if given and given.rows and (need := raw_rows_needed(prompts)) > given.rows:
            found.append(
                f"prompts.pool: {prompts.pool} training and {prompts.test + prompts.validation} "
                f"held-out prompts with surplus {prompts.surplus:g} need {need} rows but "
                f"{prompts.source} has {given.rows}; lower pool, test or surplus"
            )
    elif study.corpus is None and known(
        "prompts.teacher", prompts.teacher or "", study.teachers, "teacher"
    ):
        writer = study.teachers[prompts.teacher or ""]
        if not writer.writes:
            found.append(
                "prompts.teacher: Magpie needs a teacher that is a model here, not ready-made text or a server"
            )
        elif writer.trained is not None:
            found.append(
                f"prompts.teacher: {prompts.teacher} is trained by this study, after the prompts are written; name a teacher with a source"
            )
    for name, teacher in study.teachers.items():
        if teacher.source is not None:
            source(f"teachers.{name}.source", teacher.source, data=False)
        if teacher.text is not None and study.corpus is None:
            source(f"teachers.{name}.text", teacher.text, data=True)
            given = study.sources.get(teacher.text)
            if given and given.fields and "response" not in given.fields:
                found.append(
                    f"sources.{teacher.text}.fields: ready-made teacher text needs a response column"
                )
            if prompts.source != teacher.text:
                found.append(
                    f"teachers.{name}.text: must be the study's prompts.source, {prompts.source!r}, whose prompts it answers"
                )
        if teacher.server is not None:
            if teacher.server.tokenizer is not None:
                source(f"teachers.{name}.server.tokenizer", teacher.server.tokenizer, data=False)
            if teacher.server.top_logprobs and prompts.template != "chat":
                found.append(
                    f"teachers.{name}.server.top_logprobs: log-probabilities are read from chats; set prompts.template to chat, or remove it"
                )
    found += served_twice(study)
    for name, student in study.students.items():
        source(f"students.{name}.source", student.source, data=False)
        if student.vocabulary is not None:
            where = f"students.{name}.vocabulary"
            known(f"{where}.teacher", student.vocabulary.teacher, study.teachers, "teacher")
            if not prompts.validation:
                found.append(
                    f"{where}: ids are counted in text for validation prompts; set "
                    "prompts.validation, e.g. to 100"
                )
    for name, method in study.methods.items():
        if method.corpus is not None and study.corpus is None:
            source(f"methods.{name}.corpus", method.corpus, data=True)
            found += _corpus_problems(study, name, method)
    if reference := study.evaluate.reference:
        source("evaluate.reference.source", reference.source, data=True)
        given = study.sources.get(reference.source)
        if given and given.fields and "text" not in given.fields:
            found.append(f"sources.{reference.source}.fields: name the text column")
        if given and given.rows and not given.begins and given.rows < reference.passages:
            found.append(
                f"evaluate.reference.passages: {reference.passages} are asked for but "
                f"{reference.source} has {given.rows} rows"
            )
    found += _cost_problems(study)
    found += [
        f"evaluate.benchmarks.{name}: its column would be that of another benchmark's error; rename the task"
        for name in study.evaluate.benchmarks
        if name.removesuffix("_stderr") in {*study.evaluate.benchmarks} - {name}
    ]
    answers = study.evaluate.answers
    if answers and answers.validation and not prompts.validation:
        found.append(
            "evaluate.answers.validation: there are no validation prompts; set prompts.validation, e.g. to 100"
        )
    for number, block in enumerate(study.runs):
        where = f"runs[{number}]"
        for name in block.students:
            known(f"{where}.students", name, study.students, "student")
        for name in block.teachers:
            known(f"{where}.teachers", name, study.teachers, "teacher")
        for name in block.methods:
            known(f"{where}.methods", name, study.methods, "method")
        for name in block.caches:
            known(f"{where}.caches", name, study.caches, "cache")
        for name in block.curations:
            known(f"{where}.curations", name, {RAW: None, **study.curations}, "curation")
        for name in block.benchmarks or []:
            known(f"{where}.benchmarks", name, study.evaluate.benchmarks, "benchmark")
        keys = ("students", "teachers", "methods", "curations", "caches", "benchmarks")
        for key in (*keys, "samples", "draws", "seeds"):
            values = getattr(block, key) or []
            if len(set(values)) < len(values):
                found.append(f"{where}.{key}: {values} names something twice; name it once")
        found += _pool_problems(study, block, where)
        if not found:
            found += _block_problems(study, block, where)
    if not found:
        found += _trained_problems(study)
    reserved = [name for name in study.methods if name == "none"]
    found += ["methods.none: the name is reserved for the untrained student"] if reserved else []
    if RAW in study.curations:
        found.append("curations.raw: the name is reserved for all rows as they are")
    for name, what in ((NO_CACHE, "without soft targets"), (LIVE, "that ask a live teacher")):
        if name in study.caches:
            found.append(f"caches.{name}: the name is reserved for runs {what}")
    return found


def _cost_problems(study: Study) -> list[str]:
    """Columns that a cost names but no run of the study could have a number in."""
    rows = COLUMNS.values()
    own = [row.name for row in rows if not row.text and study.task not in row.null_in]
    return [
        _unknown("evaluate.cost", name, dict.fromkeys(own), "column of numbers")
        for name in study.evaluate.cost or {}
        if name not in own
    ]


def _soft_problems(study: Study, teacher: str, method: Method, name: str, cache: str) -> list[str]:
    """What keeps a method from reading a teacher's soft targets."""
    entry = study.caches[cache]
    if reason := unsound(method, entry):
        return [f"methods.{name} with caches.{cache}: {reason}"]
    server = study.teachers[teacher].server
    if not study.teachers[teacher].has_model and server is not None:
        reason = not_served(server, entry)
        return [f"methods.{name} with caches.{cache}: {reason}"] if reason else []
    if not study.teachers[teacher].has_model:
        return [
            f"methods.{name} needs soft targets, but teachers.{teacher} has no model to score its "
            "text; give it a source"
        ]
    return _cut_problems(study, [*entry.teachers] or [teacher], method, name)


def _cut_problems(study: Study, teachers: list[str], method: Method, name: str) -> list[str]:
    """A divergence that cut distributions make infinite."""
    scorers = [study.teachers[teacher] for teacher in teachers if teacher in study.teachers]
    cut = any(scorer.top_k or scorer.top_p < 1 for scorer in scorers)
    if cut and method.infinite_at_zero:
        return [
            f"methods.{name}: KL(student || teacher) is infinite where top_k or top_p cut the "
            f"teacher's distribution; use another loss, or a teacher without a cut"
        ]
    if cut and method.spans:
        return [
            f"methods.{name}: top_k or top_p cut the teacher's distribution, where the likelihood of a "
            "text can be 0; use another loss than spans, or a teacher without a cut"
        ]
    return []


def _tokenizer_source(study: Study, teacher: str) -> str | None:
    """Model source of a teacher's tokenizer."""
    entry = study.teachers[teacher]
    return study.students[entry.trained.student].source if entry.trained else entry.source


def _live_problems(
    study: Study, teachers: list[str], students: list[str], method: Method, name: str
) -> list[str]:
    """What keeps a method from asking a teacher about a student's answers while that trains."""
    if method.on_policy is None:
        return []
    return [
        *(
            f"methods.{name}: on_policy asks the teacher's model, but teachers.{teacher} is text "
            "alone; give it a source"
            for teacher in teachers
            if not study.teachers[teacher].has_model
        ),
        *(
            f"methods.{name} with students.{student}: it could not write the words that its "
            "vocabulary drops; remove on_policy, or the student's vocabulary"
            for student in students
            if study.students[student].vocabulary is not None
        ),
        *_cut_problems(study, teachers, method, name),
    ]


def _shared_problems(study: Study, teachers: list[str], name: str, gpus: int) -> list[str]:
    """What keeps several GPUs from training by a method together."""
    train = study.train_of(name)
    size = train.micro_batch_size or max(1, train.batch_size // gpus)
    if train.batch_size % (size * gpus):
        return [
            f"methods.{name}: {gpus} GPUs share a batch, but train.batch_size ({train.batch_size}) is "
            f"no multiple of gpus x micro_batch_size ({gpus} x {size}); change one of them"
        ]
    spread = [teacher for teacher in teachers if study.teachers[teacher].device_map]
    if gpus > 1 and study.method_of(name).on_policy is not None and spread:
        return [
            f"methods.{name}: on_policy with gpus gives each GPU a teacher of its own, but "
            f"teachers.{spread[0]}.device_map spreads it over all; remove one of them"
        ]
    return []


def _unsound_trimmed(study: Study, method: Method, block: Block) -> str | None:
    """Why a student with a trimmed vocabulary cannot learn by a method, with the remedy."""
    remedy = "use another loss, or remove the student's vocabulary"
    if method.uld or method.spans or (method.embedding and method.embedding.head == "teacher"):
        return f"uld, spans and the teacher's own head need the full vocabulary; {remedy}"
    if method.soft and method.temperature != 1:
        return f"at a temperature other than 1 dropped words are no class of their own; {remedy}"
    if method.soft and any(study.caches[name].scheme == "top_k_tail" for name in block.caches):
        return f"the tail of top_k_tail and the dropped words overlap; use another scheme, {remedy}"
    return None


def _learns_corpus(study: Study, name: str) -> bool:
    """Whether a method trains on a corpus; names may still lead nowhere."""
    method = study.methods.get(name)
    if method is not None and method.search in study.searches:
        method = study.methods.get(study.searches[method.search].method)
    return method is not None and method.corpus is not None


def _pool_problems(study: Study, block: Block, where: str) -> list[str]:
    """Sizes beyond the pool of prompts, which only runs on a teacher's text draw from."""
    prompts, largest = study.rows, max(block.samples)
    section = "prompts" if study.corpus is None else "corpus"
    limit, setting = prompts.pool, f"{section}.pool"
    if any(block.draws) and prompts.draw_pool is not None:
        limit, setting = prompts.draw_pool, f"{section}.draw_pool (draws above 0 permute it)"
    if all(_learns_corpus(study, name) for name in block.methods):
        return []
    if largest > limit:
        return [
            f"{where}.samples: {largest} is larger than {setting}, {limit}; raise that or lower samples"
        ]
    found = []
    if any(block.draws) and limit > MOST_ROWS:
        found.append(
            f"{where}.draws: draws above 0 permute at most {MOST_ROWS} rows; set {section}.draw_pool"
        )
    for name in block.curations:
        curation = study.curations.get(name)
        need = curation.candidates(largest) if curation else largest
        if need > limit:
            found.append(
                f"{where}.samples: {largest} rows kept by curations.{name} are chosen from {need} "
                f"(surplus {curation.surplus if curation else 1:g}), more than {setting}, {limit}; "
                "raise that or lower samples or surplus"
            )
    return found


def _corpus_problems(study: Study, name: str, method: Method) -> list[str]:
    """Mistakes in a method that trains on a corpus, its own keys apart."""
    found, corpus, reference = [], method.corpus or "", study.evaluate.reference
    source = study.sources.get(corpus)
    if source and source.fields and "text" not in source.fields:
        found.append(f"sources.{corpus}.fields: name the text column, which methods.{name} learns")
    assert reference is not None
    kept = reference.passages if corpus == reference.source else 0
    if source and source.rows and source.rows <= kept:
        found.append(
            f"methods.{name}.corpus: all {source.rows} rows of {corpus} are reference text (evaluate.reference.passages: {kept}), which is never trained on; lower passages or name another corpus"
        )
    problems = _train_problems(study, "", method.train)
    if not problems and method.corpus_tokens >= (length := study.train_of(name).max_length):
        found.append(
            f"methods.{name}.corpus_tokens: {method.corpus_tokens} and the token before them exceed train.max_length ({length}); raise that or lower corpus_tokens"
        )
    return found


def _trained_problems(study: Study) -> list[str]:
    """Teachers whose training cannot work; other names and settings are in order."""
    found: list[str] = []
    for name, teacher in study.teachers.items():
        entry, where = teacher.trained, f"teachers.{name}.trained"
        if entry is None:
            continue
        before = len(found)
        for key, table in (
            ("student", study.students), ("teacher", study.teachers), ("method", study.methods),
            ("cache", study.caches), ("curation", {RAW: None, **study.curations}),
        ):  # fmt: skip
            value = getattr(entry, key)
            if value is not None and value not in table:
                found.append(_unknown(f"{where}.{key}", value, table, key))
        if len(found) > before:
            continue
        own = study.method_of(entry.method)
        corpus = _learns_corpus(study, entry.method) or (study.corpus and not own.soft)
        if entry.teacher is None and not corpus:
            found.append(
                f"{where}.teacher is missing; the method {entry.method} learns a teacher's text"
            )
            continue
        block = Block(
            students=[entry.student],
            teachers=[entry.teacher or name],
            methods=[entry.method],
            caches=[entry.cache] if entry.cache else [],
            samples=[entry.samples],
            curations=[entry.curation],
            draws=[entry.draw],
        )
        found += _pool_problems(study, block, where)
        found += _block_problems(study, block, where, teacher.gpus)
    if found:
        return found
    return [
        f"teachers.{loop[0]}.trained: {' learns from '.join(loop)}, a loop that no training can begin; let one of them learn from a teacher with a source, or from a corpus"
        for loop in teacher_loops(study)
    ]


def _block_problems(study: Study, block: Block, where: str, gpus: int = 1) -> list[str]:
    """Combinations of a block of runs that cannot work, trained on at least so many GPUs; its names
    are known to exist."""
    found = []
    gpus = max(gpus, *(study.students[student].gpus for student in block.students))
    for name in block.curations:
        if name in study.curations:
            found += _curation_problems(study, block, name)
    for name in block.methods:
        method = study.method_of(name)
        if method.reads_cache and not block.caches:
            found.append(
                f"{where}.caches: the method {name} needs soft targets; name a cache "
                f"({', '.join(study.caches) or 'and define it under caches:'})"
            )
        if method.reads_cache:
            for teacher in block.teachers:
                for cache in block.caches:
                    found += _soft_problems(study, teacher, method, name, cache)
        found += _live_problems(study, block.teachers, block.students, method, name)
        found += _shared_problems(study, block.teachers, name, gpus)
        untrained_head = not method.weights and not (
            method.embedding and method.embedding.head == "teacher"
        )
        for student in block.students:
            trimmed = study.students[student].vocabulary is not None
            if trimmed and (reason := _unsound_trimmed(study, method, block)):
                found.append(f"methods.{name} with students.{student}: {reason}")
            for teacher in block.teachers if method.spans else []:
                if study.students[student].source == _tokenizer_source(study, teacher):
                    found.append(
                        f"methods.{name}: {student} has the tokenizer of {teacher}, so spans has "
                        "nothing to align; use forward_kl in its place"
                    )
            if untrained_head and study.students[student].init == "random":
                found.append(
                    f"methods.{name}: nothing would train the output head of {student}, which "
                    "begins at random; add ce, or embedding: {head: teacher}"
                )
        if study.train_of(name).early_stopping and not study.rows.validation:
            found.append(
                f"methods.{name}: early stopping needs held-out validation prompts; set "
                "prompts.validation, e.g. to 100"
            )
    if not any(study.method_of(name).reads_cache for name in block.methods) and block.caches:
        live = any(study.method_of(name).on_policy for name in block.methods)
        asked = " (on_policy asks the teacher itself)" if live else ""
        found.append(
            f"{where}.caches: none of its methods reads soft targets{asked}; remove caches"
        )
    return found


def _curation_problems(study: Study, block: Block, name: str) -> list[str]:
    """What keeps a block's teachers and methods from using a curation."""
    found, curation = [], study.curations[name]
    counts = curation.length and (curation.length.min_tokens or curation.length.max_tokens)
    for teacher in block.teachers:
        entry = study.teachers[teacher]
        scored = ("teacher_loss", curation.teacher_loss, entry.has_model)
        for key, needed, given in (scored, ("length", counts, entry.has_tokens)):
            if needed and not given:
                found.append(
                    f"curations.{name}.{key} needs the tokens of a model, but teachers.{teacher} is "
                    "text alone; give it a source, or use another filter"
                )
    for method in block.methods:
        if curation.corrupt and study.method_of(method).reads_cache:
            found.append(
                f"methods.{method} with curations.{name}: a corrupted answer has no soft targets, as "
                "the teacher's distributions go with the text that it wrote; use a method with ce "
                "alone, or a curation without corrupt"
            )
    return found


def _part_problems(study: Study) -> list[str]:
    """Mistakes inside caches, methods and searches."""
    found: list[str] = []
    for name, cache in study.caches.items():
        for teacher in cache.teachers:
            if teacher not in study.teachers:
                found.append(f"caches.{name}.teachers: there is no teacher {teacher!r}")
            elif not study.teachers[teacher].has_model:
                found.append(f"caches.{name}.teachers: {teacher} has no model; give it a source")
    for name, method in study.methods.items():
        if method.search is not None and method.search not in study.searches:
            found.append(f"methods.{name}.search: there is no search {method.search!r}")
        found += _train_problems(study, f"methods.{name}.train", method.train)
    for name, search in study.searches.items():
        found += _search_problems(study, name, search)
    return found


def _train_problems(study: Study, where: str, entries: dict[str, Any]) -> list[str]:
    try:
        Train.model_validate(study.train.model_dump() | entries)
    except ValidationError as error:
        lines = [sentence(item, Train).removeprefix("config: ") for item in error.errors()]
        return [f"{where}: {line}" for line in lines]
    return []


def _keys_of(section: BaseModel | None) -> list[str]:
    return [] if section is None else list(type(section).model_fields)


def _search_problems(study: Study, name: str, search: Search) -> list[str]:
    where, found = f"searches.{name}", []
    for key, table in (
        ("student", study.students), ("teacher", study.teachers), ("method", study.methods),
        ("cache", study.caches),
    ):  # fmt: skip
        value = getattr(search, key)
        if value is not None and value not in table:
            found.append(f"{where}.{key}: there is no {key} {value!r}")
    if found:
        return found
    method = study.methods[search.method]
    if method.search:
        return [f"{where}.method: {search.method} is itself the result of a search; name another"]
    if (reads := method.reads_cache) != (search.cache is not None):
        verb = "needs soft targets; name a cache" if reads else "reads no cache; remove it"
        found.append(f"{where}.cache: the method {search.method} {verb}")
    elif search.cache is not None:
        found += _soft_problems(study, search.teacher, method, search.method, search.cache)
    found += _live_problems(study, [search.teacher], [search.student], method, search.method)
    limit = study.rows.pool
    if search.draw:
        limit = study.rows.draw_pool or limit
    if search.draw and limit > MOST_ROWS:
        section = "prompts" if study.corpus is None else "corpus"
        found.append(
            f"{where}.draw: draws above 0 permute at most {MOST_ROWS} rows; set {section}.draw_pool"
        )
    if search.samples > limit and method.corpus is None:
        found.append(
            f"{where}.samples: {search.samples} is larger than the pool of {limit} prompts"
        )
    if not study.rows.validation:
        found.append(f"{where}: a search needs prompts.validation, e.g. 100 held-out prompts")
    if "method.spans" in search.space and not method.spans:
        found.append(
            f"{where}.space: method.spans is varied, but methods.{search.method} does not use spans; "
            "give it a weight above 0 there"
        )
    every_word = search.cache is None or study.caches[search.cache].scheme in EVERY_WORD
    if "method.temperature" in search.space and not every_word:
        found.append(
            f"{where}.space: method.temperature varies freely, which caches.{search.cache} does not "
            "serve; use a cache with scheme final_hidden"
        )
    for key in search.space:
        section, _, setting = key.partition(".")
        own = {"method": method, "train": study.train}.get(section)
        fixed = key == "method.corpus_tokens"  # the shard is cut before the search begins
        value = None if fixed or setting not in _keys_of(own) else getattr(own, setting, None)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            found.append(
                f"{where}.space: {short_name(key)} is no numeric setting; use method.<key> or train.<key>, such "
                "as method.forward_kl or train.learning_rate"
            )
    return found
