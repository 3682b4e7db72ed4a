"""What every study has: its config, checked before the first job, and the files it promises."""

import json
from pathlib import Path

from distill.benchmark_plan import BenchmarkPlan
from distill.checks import parse_study
from distill.digest import CodeDigests
from distill.files import UserError
from distill.killed import killed_hints
from distill.plan import Plan
from distill.startup import (
    check_benchmarks,
    check_cells,
    check_corpora,
    check_device_limit,
    check_harness,
    check_local_files,
    check_row_counts,
    check_server_keys,
    check_stored_specs,
    take_lock,
)
from distill.table_study import parse_table_study
from distill.validation import check_yaml

BASE = Path(workflow.basedir)
DIGESTS = CodeDigests(BASE / "scripts", Path(".snakemake/code_digests.json"))
OWN_TABLE = "runs_table" in config
FIGURES = [
    "law_curves",
    "size_curves",
    "judged",
    "residuals",
    "exponents",
    "distillation_gap",
    "pareto",
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


def load_study():
    """Check config, files and finished results; a mistake ends the run with its sentence."""
    try:
        for file in workflow.overwrite_configfiles or [f"{BASE}/config.yaml"]:
            check_yaml(file)
        if OWN_TABLE:
            return parse_table_study(config)
        plan = Plan(parse_study(config))
        check_local_files(plan)
        if workflow.is_main_process:
            check_cells(plan)
            check_row_counts(plan)
            check_corpora(plan)
            check_benchmarks(plan)
            check_device_limit(workflow.global_resources)
            check_stored_specs(plan)
        return plan
    except UserError as error:
        sys.exit(f"Error: {error}")


PLAN = load_study()
RESULTS = PLAN.results
BENCHMARKS = None if OWN_TABLE else BenchmarkPlan(PLAN)


onstart:
    take_lock(".snakemake/writer.lock")
    if not OWN_TABLE:
        check_harness(PLAN, bool(workflow.deployment_settings.deployment_method))
        check_server_keys(PLAN)


onerror:
    for hint in killed_hints(Path(log).read_text(errors="replace")):
        sys.stderr.write(f"{hint}\n")


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
