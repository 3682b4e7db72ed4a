"""Which teachers a run depends on, and cycles among teachers that a study trains."""

from distill.config.study import Study


def teachers_behind(
    study: Study,
    student: str,
    teacher: str,
    method: str,
    cache: str | None,
    curation: str = "raw",
) -> list[str]:
    """Teachers whose text or distribution a run reads before and during training, each once.

    A method that trains on a corpus reads its teacher's text only for early stopping; a trimmed
    vocabulary counts ids in a teacher's text. In a study with a corpus, a run reads a teacher only
    for soft targets and for a curation by its loss.
    """
    teachers = []
    if study.corpus is not None:
        return _behind_corpus(study, teacher, method, cache, curation)
    if vocabulary := study.students[student].vocabulary:
        teachers.append(vocabulary.teacher)
    if study.method_of(method).corpus is None or study.train_of(method).early_stopping:
        teachers.append(teacher)
    if cache is not None:
        teachers += study.caches[cache].teachers
    if name := study.methods[method].search:
        search = study.searches[name]
        teachers.append(search.teacher)
        if vocabulary := study.students[search.student].vocabulary:
            teachers.append(vocabulary.teacher)
        teachers += study.caches[search.cache].teachers if search.cache else []
    return list(dict.fromkeys(teachers))


def _behind_corpus(
    study: Study, teacher: str, method: str, cache: str | None, curation: str
) -> list[str]:
    """The same in a study with a corpus: teachers whose soft targets or losses the run reads."""
    teachers, chosen = [], study.curations.get(curation)
    pairs = [(teacher, cache)]
    if name := study.methods[method].search:
        pairs.append((study.searches[name].teacher, study.searches[name].cache))
    if study.method_of(method).soft:
        for scorer, soft in pairs:
            teachers += list(study.caches[soft].teachers if soft else ()) or [scorer]
    if chosen and chosen.teacher_loss:
        teachers.append(teacher)
    return list(dict.fromkeys(teachers))


def teacher_loops(study: Study) -> list[list[str]]:
    """Cycles among the trained teachers, as names from a teacher back to itself, each cycle once."""
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
