"""What every study has: digests of code, figures, and the files it promises."""

import json
from pathlib import Path

from distill.workflow.digest import CodeDigests, content_mark

DIGESTS = CodeDigests(BASE / "scripts", Path(".snakemake/code_digests.json"))
FIGURES = [
    "law_curves",
    "size_curves",
    "judged",
    "residuals",
    "exponents",
    "distillation_gap",
    "pareto",
    "pareto_energy",
    "flops_split",
    "curation_effect",
]
if not OWN_TABLE:
    FIGURES += [
        "perplexity",
        "kl_gap",
        "flops",
        "cache_cost",
        "search",
        "calibration",
        "pass_rate",
        "combined",
        "training_time",
        "quality_speed",
        "quality_size",
    ]


def code(script, *data):
    """Digest of a script's code, its imports and the data files that it reads."""
    return DIGESTS.of(
        BASE / "scripts" / f"{script}.py", *(BASE / file for file in data)
    )


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
