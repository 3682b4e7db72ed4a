"""Shared by all rules: digests of code, figures, final files, and functions of wildcards."""

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
    """Digests of the modules of the study's figures, which jobs import by name."""
    return [code(f"distill/figures/{figure}") for figure in FIGURES]


def final_files():
    """Files that users open: the report, its figures and its data."""
    names = ("report.html", "runs.parquet", "runs.csv", "laws.json", "answers.json")
    files = [f"{RESULTS}/{name}" for name in (*names, "references.json")]
    files += [
        f"{RESULTS}/figures/{figure}.{form}"
        for figure in FIGURES
        for form in ("svg", "png", "csv")
    ]
    return sorted(files)


def everything():
    """All target files of a study."""
    files = [*final_files(), f"{RESULTS}/provenance.json"]
    return sorted({*files, *([] if OWN_TABLE else OUTPUTS.trained_files())})


def provenance_inputs():
    """Files in the provenance record: results, and the models and data behind them."""
    if OWN_TABLE:
        table = [PLAN.runs_table.path]
        return {"outputs": final_files(), "records": [], "manifests": [], "data": table}
    return OUTPUTS.provenance_inputs(final_files())


if not OWN_TABLE:

    wildcard_constraints:
        **PLAN.wildcards(),


def text_teacher(wildcards):
    """The teacher of a text path."""
    return PLAN.text.by_key[wildcards.text]


def scorer_of(wildcards):
    """A teacher with the model of a path."""
    return PLAN.scorers.by_key[wildcards.scorer]


def cache_of(wildcards):
    """Teacher and cache of a path of soft targets."""
    return PLAN.targets.by_key[wildcards.text, wildcards.targets]


def layers_of(wildcards):
    """Teacher and cache of a path of stored layers."""
    return PLAN.layers.by_key[wildcards.text, wildcards.layers]


def loss_of(wildcards):
    """Teacher of a path of per-answer losses."""
    return PLAN.losses.by_key[wildcards.text, wildcards.loss]


def served_part(wildcards):
    """The server's answers behind a part of a text."""
    teacher = text_teacher(wildcards)
    return PLAN.served.part(teacher, wildcards.split, int(wildcards.part))


def gpus_of(wildcards):
    """Number of GPUs that train the student of a path."""
    return PLAN.training.gpus(run_of(wildcards))
