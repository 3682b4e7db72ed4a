"""What every study has: digests of code, figures, and the files it promises."""

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
    return sorted({*files, *([] if OWN_TABLE else trained_files())})
