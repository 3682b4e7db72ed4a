"""What a study needs besides its run table: trained teachers, searches, teachers' text."""

from collections.abc import Iterator

from distill.contracts.run import NO_CACHE, Run
from distill.plan.stages import Stages


def needed_runs(plan: Stages) -> list[Run]:
    """All runs to train: those of the run table, then those that only train a teacher."""
    return list(dict.fromkeys([*plan.runs, *plan.teachers.trained_runs]))


def needed_searches(plan: Stages) -> list[str]:
    """Searches whose settings a run takes, each once."""
    searches = (plan.study.methods[run.method].search for run in needed_runs(plan) if run.samples)
    return list(dict.fromkeys(name for name in searches if name))


def needed_students(plan: Stages) -> list[str]:
    """Students that are built, each once."""
    runs = [*needed_runs(plan), *map(plan.searches.run, needed_searches(plan))]
    return list(dict.fromkeys(run.student for run in runs))


def train_parts(plan: Stages, run: Run) -> list[int]:
    """Parts of the teacher's text that a run's data come from, including candidates of a curation.

    Corruption, filters by loss and fitted projections of layers also need the first part.
    """
    parts = set(plan.rows.parts(run))
    fitted = run.cached != NO_CACHE and plan.layers.projection(run.teacher, run.cache)
    if plan.curations.donors(run) or plan.curations.losses(run) or fitted:
        parts.add(0)
    return sorted(parts)


def needed_texts(plan: Stages) -> list[tuple[str, str, int]]:
    """(teacher, split, part) of all text that a study reads, each once.

    Training text is for runs and searches; validation text for early stopping, searches, trimmed
    vocabularies and BLEU; test text for the teachers of the run table.
    """
    return sorted(set(_texts(plan)))


def _texts(plan: Stages) -> Iterator[tuple[str, str, int]]:
    held_out = {("test", run.teacher) for run in plan.runs}
    held_out |= {
        ("validation", name) for _, name in held_out if plan.text.answered_validation(name)
    }
    searched = [plan.searches.run(name) for name in needed_searches(plan)]
    for run in (*(run for run in needed_runs(plan) if run.samples), *searched):
        for part in train_parts(plan, run):
            yield run.teacher, "train", part
        if run in searched or plan.training.validation(run):
            held_out.add(("validation", run.teacher))
    for name in needed_students(plan):
        if vocabulary := plan.study.students[name].vocabulary:
            held_out.add(("validation", vocabulary.teacher))
    for split, teacher in held_out:
        for part in plan.pool.parts(split):
            yield teacher, split, part
