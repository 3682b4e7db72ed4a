"""What every study has: digests of code, figures, the files it promises, what paths name."""

import json
from pathlib import Path

from distill.plan.figures import figures_of
from distill.workflow.digest import CodeDigests, content_mark

DIGESTS = CodeDigests(BASE / "scripts", Path(".snakemake/code_digests.json"))
FIGURES = figures_of(PLAN) if OWN_TABLE else figures_of(PLAN.study, PLAN.runs)


def code(script, *data):
    """Digest of a script's code, its imports and the data files that it reads."""
    return DIGESTS.of(
        BASE / "scripts" / f"{script}.py", *(BASE / file for file in data)
    )


def figures_code():
    """Digests of the modules of the study's figures, which jobs import by their names."""
    return [code(f"distill/figures/{figure}") for figure in FIGURES]


def final_files():
    """What users open: the report and what it is made from."""
    names = ("report.html", "runs.parquet", "runs.csv", "laws.json", "answers.json")
    files = [f"{RESULTS}/{name}" for name in (*names, "references.json")]
    files += [
        f"{RESULTS}/figures/{figure}.{form}"
        for figure in FIGURES
        for form in ("svg", "png", "csv")
    ]
    return sorted(files)


def everything():
    """Every file that a study promises."""
    files = [*final_files(), f"{RESULTS}/provenance.json"]
    return sorted({*files, *([] if OWN_TABLE else OUTPUTS.trained_files())})


def provenance_inputs():
    """What the provenance record is about: results, and the models and data behind them."""
    if OWN_TABLE:
        table = [PLAN.runs_table.path]
        return {"outputs": final_files(), "records": [], "manifests": [], "data": table}
    return OUTPUTS.provenance_inputs(final_files())


if not OWN_TABLE:

    wildcard_constraints:
        **PLAN.wildcards(),


def text_teacher(wildcards):
    """The teacher whose text a path names."""
    return PLAN.text.by_key[wildcards.text]


def scorer_of(wildcards):
    """A teacher whose model a path names."""
    return PLAN.scorers.by_key[wildcards.scorer]


def cache_of(wildcards):
    """Teacher and cache that a path of soft targets names."""
    return PLAN.targets.by_key[wildcards.text, wildcards.targets]


def layers_of(wildcards):
    """Teacher and cache that a path of stored layers names."""
    return PLAN.layers.by_key[wildcards.text, wildcards.layers]


def loss_of(wildcards):
    """Teacher whose own losses a path names."""
    return PLAN.losses.by_key[wildcards.text, wildcards.loss]


def served_part(wildcards):
    """The server's answers that a part of a text is taken from."""
    teacher = text_teacher(wildcards)
    return PLAN.served.part(teacher, wildcards.split, int(wildcards.part))


def gpus_of(wildcards):
    """GPUs that train the student of a path together."""
    return PLAN.training.gpus(run_of(wildcards))
