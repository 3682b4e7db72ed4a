"""Who learns from whom: the teachers behind a run, and loops among teachers that a study trains."""

from distill.config.study import Study


def teachers_behind(
    study: Study,
    student: str,
    teacher: str,
    method: str,
    cache: str | None,
    curation: str = "raw",
) -> list[str]:
    """Teachers whose text or distribution a run reads until it is trained, each once.

    A run that learns a corpus reads its teacher's text only to stop early; a trimmed vocabulary is
    counted in a teacher's text. Where the whole study learns a corpus, a teacher is read only for
    soft targets and by a curation that asks for its loss.
    """
    found = []
    if study.corpus is not None:
        return _behind_corpus(study, teacher, method, cache, curation)
    if vocabulary := study.students[student].vocabulary:
        found.append(vocabulary.teacher)
    if study.method_of(method).corpus is None or study.train_of(method).early_stopping:
        found.append(teacher)
    if cache is not None:
        found += study.caches[cache].teachers
    if name := study.methods[method].search:
        search = study.searches[name]
        found.append(search.teacher)
        if vocabulary := study.students[search.student].vocabulary:
            found.append(vocabulary.teacher)
        found += study.caches[search.cache].teachers if search.cache else []
    return list(dict.fromkeys(found))


def _behind_corpus(
    study: Study, teacher: str, method: str, cache: str | None, curation: str
) -> list[str]:
    """The same where the text is a corpus: whose soft targets and losses are read."""
    found, chosen = [], study.curations.get(curation)
    pairs = [(teacher, cache)]
    if name := study.methods[method].search:
        pairs.append((study.searches[name].teacher, study.searches[name].cache))
    if study.method_of(method).soft:
        for own, soft in pairs:
            found += list(study.caches[soft].teachers if soft else ()) or [own]
    if chosen and chosen.teacher_loss:
        found.append(teacher)
    return list(dict.fromkeys(found))


def teacher_loops(study: Study) -> list[list[str]]:
    """Loops among the trained teachers, as names from a teacher back to itself; each loop once."""
    behind = {
        name: teachers_behind(
            study,
            entry.trained.student,
            entry.trained.teacher or name,
            entry.trained.method,
            entry.trained.cache,
            entry.trained.curation,
        )
        for name, entry in study.teachers.items()
        if entry.trained is not None
    }
    loops: list[list[str]] = []
    closed: set[str] = set()

    def follow(name: str, path: list[str]) -> None:
        if name in path:
            loops.append([*path[path.index(name) :], name])
        elif name not in closed:
            for other in behind.get(name, []):
                follow(other, [*path, name])
            closed.add(name)

    for name in behind:
        follow(name, [])
    return loops
