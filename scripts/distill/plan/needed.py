"""What a study makes beside its run table: students that teach, searches, teachers' text."""

from collections.abc import Iterator

from distill.contracts.run import NO_CACHE, Run
from distill.plan.study import Plan


def needed_runs(plan: Plan) -> list[Run]:
    """Runs that are trained: those of the run table, then those that only make a teacher."""
    return list(dict.fromkeys([*plan.runs, *plan.trained_runs]))


def needed_searches(plan: Plan) -> list[str]:
    """Searches whose settings a run takes, each once."""
    named = (plan.study.methods[run.method].search for run in needed_runs(plan) if run.samples)
    return list(dict.fromkeys(name for name in named if name))


def needed_students(plan: Plan) -> list[str]:
    """Students that are built, each once."""
    runs = [*needed_runs(plan), *map(plan.search_run, needed_searches(plan))]
    return list(dict.fromkeys(run.student for run in runs))


def train_parts(plan: Plan, run: Run) -> list[int]:
    """Parts of its teacher's text that a run's data come from, candidates of a curation included.

    A corruption takes answers from the first part, a filter by loss its constants, and a fitted
    projection of layers its directions.
    """
    parts = set(plan.shard_parts(run))
    fitted = run.cached != NO_CACHE and plan.layers_projection(run.teacher, run.cache)
    if plan.donor_text(run) or plan.curation_losses(run) or fitted:
        parts.add(0)
    return sorted(parts)


def needed_texts(plan: Plan) -> list[tuple[str, str, int]]:
    """(teacher, split, part) of all text that a study reads, each once.

    Train text of the runs and searches; validation text for early stopping, searches, the ids that
    trimmed vocabularies keep and BLEU; test text of the teachers of the run table.
    """
    return sorted(set(_texts(plan)))


def _texts(plan: Plan) -> Iterator[tuple[str, str, int]]:
    held_out = {("test", run.teacher) for run in plan.runs}
    held_out |= {("validation", name) for _, name in held_out if plan.answered_validation(name)}
    searched = [plan.search_run(name) for name in needed_searches(plan)]
    for run in (*(run for run in needed_runs(plan) if run.samples), *searched):
        for part in train_parts(plan, run):
            yield run.teacher, "train", part
        if run in searched or plan.validation_text(run):
            held_out.add(("validation", run.teacher))
    for name in needed_students(plan):
        if vocabulary := plan.study.students[name].vocabulary:
            held_out.add(("validation", vocabulary.teacher))
    for split, teacher in held_out:
        for part in plan.held_out_parts(split):
            yield teacher, split, part
