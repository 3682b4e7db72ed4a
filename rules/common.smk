"""The plan of the study, checks before the first job, and input functions."""

from pathlib import Path

from distill.checks import check_yaml, parse_study
from distill.digest import code_digest
from distill.files import UserError
from distill.plan import Plan
from distill.startup import (
    check_device_limit,
    check_local_files,
    check_row_counts,
    check_stored_specs,
    take_lock,
)

BASE = Path(workflow.basedir)
FIGURES = [
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


def load_plan():
    """Check config, files and finished results; a mistake ends the run with its sentence."""
    try:
        for file in workflow.overwrite_configfiles or [f"{BASE}/config.yaml"]:
            check_yaml(file)
        plan = Plan(parse_study(config))
        check_local_files(plan)
        if workflow.is_main_process:
            check_row_counts(plan)
            check_device_limit(workflow.global_resources)
            check_stored_specs(plan)
    except UserError as error:
        sys.exit(f"Error: {error}")
    return plan


PLAN = load_plan()
RESULTS = PLAN.results


onstart:
    take_lock(".snakemake/writer.lock")


wildcard_constraints:
    source="[a-z0-9-]+",
    prompts=PLAN.prompts_key,
    text="|".join(PLAN.text_keys),
    scorer="|".join(PLAN.scorer_keys) or "none",
    tokens="answer|all",
    targets="|".join({key for _, key in PLAN.cache_keys}) or "none",
    layers="|".join({key for _, key in PLAN.layers_keys}) or "none",
    search="|".join(PLAN.study.searches) or "none",
    split="test|validation|train",
    part=r"\d{5}",
    initial="|".join(PLAN.student_keys),
    architecture="|".join(PLAN.architectures),
    figure="|".join(FIGURES),
    draw=r"\d+",
    seed=r"\d+",
    samples=r"\d+",
    student="|".join(PLAN.study.students),
    teacher="|".join(PLAN.study.teachers),
    method="|".join([*PLAN.study.methods, "none"]),
    curation="raw",
    cache="|".join([*PLAN.study.caches, "none"]),


def code(script, *data):
    """Digest of a script's code, its imports and the data files that it reads."""
    return code_digest(
        BASE / "scripts" / f"{script}.py", *(BASE / file for file in data)
    )


def run_of(wildcards):
    """The run that wildcards name."""
    from distill.plan import Run

    return Run(
        wildcards.get("student", ""),
        wildcards.teacher,
        wildcards.get("method", ""),
        wildcards.curation,
        wildcards.cache,
        int(wildcards.samples),
        int(wildcards.draw),
        int(wildcards.get("seed", 0)),
    )


def everything():
    """Every file that a study promises."""
    files = [
        f"{RESULTS}/{name}" for name in ("report.html", "runs.parquet", "runs.csv")
    ]
    files += [
        f"{RESULTS}/{name}"
        for name in ("answers.json", "laws.json", "references.json", "samples.json")
    ]
    files += [PLAN.search_file(name) for name in PLAN.searches]
    for run in PLAN.runs:
        files += [
            PLAN.student_file(run, name)
            for name in ("model.safetensors", "metrics.json")
        ]
        if run.samples:
            files += [
                PLAN.shard(run),
                str(Path(PLAN.shard(run)).parents[1] / "README.md"),
            ]
    files += [
        f"{RESULTS}/figures/{figure}.{form}"
        for figure in FIGURES
        for form in ("svg", "png", "csv")
    ]
    return sorted(set(files))


def text_teacher(wildcards):
    """The teacher whose text wildcards name."""
    return PLAN.text_keys[wildcards.text]


def text_model(wildcards):
    """Manifest of a text's teacher; nothing for text without a model."""
    teacher = text_teacher(wildcards)
    return [PLAN.model_of("teachers", teacher)] if PLAN.has_model(teacher) else []


def scorer_model(wildcards):
    """Manifest of a scoring teacher's model."""
    return PLAN.model_of("teachers", PLAN.scorer_keys[wildcards.scorer])


def cache_of(wildcards):
    """Teacher and cache that a soft-target path names."""
    return PLAN.cache_keys[wildcards.text, wildcards.targets]


def layers_of(wildcards):
    """Teacher and cache that a stored-layers path names."""
    return PLAN.layers_keys[wildcards.text, wildcards.layers]


def shard_of(wildcards):
    """The run's training data; none at n = 0."""
    run = run_of(wildcards)
    return [PLAN.shard(run)] if run.samples else []


def held_out(teacher):
    """What every evaluation against a teacher reads."""
    return {
        "texts": PLAN.held_out_text(teacher, "test"),
        "states": PLAN.test_states(teacher),
        "head": [PLAN.head(teacher)] if PLAN.has_model(teacher) else [],
        "reference": PLAN.data_rows(PLAN.study.evaluate.reference.source),
    }
