"""From the records of a study to its runs table."""

if PLAN.study.corpus is None:

    rule check_near_duplicates:
        """The study's own check that no test prompt has a near-duplicate in train."""
        input:
            test=[
                PLAN.prompts_part("test", part) for part in PLAN.held_out_parts("test")
            ],
            train=PLAN.train_prompts,
        output:
            report=PLAN.near_duplicates,
        log:
            f"logs/check_near_duplicates/{RESULTS}.log",
        conda:
            "../envs/analysis.yaml"
        resources:
            mem_mb=2000,
            runtime=60,
        params:
            threshold=PLAN.study.prompts.near_duplicate,
            code=code("check_near_duplicates"),
        script:
            "../scripts/check_near_duplicates.py"


rule collect_runs:
    """The runs table: one row per run of the run table."""
    input:
        metrics=[PLAN.student_file(run, "metrics.json") for run in PLAN.runs],
        responses=[PLAN.student_file(run, "responses.jsonl") for run in PLAN.runs]
        + [
            f"{RESULTS}/teachers/{name}/responses.jsonl"
            for name in PLAN.model_teachers
        ],
        shards=PLAN.shards,
        decisions=PLAN.all_decisions,
        efficiency=PLAN.efficiencies,
        teachers=[PLAN.teacher_metrics(name) for name in PLAN.model_teachers],
        near_duplicates=PLAN.near_duplicates,
        searches=[PLAN.search_file(name) for name in PLAN.searches],
        trained=[
            PLAN.student_file(run, "training.json") for _, run in PLAN.trained_teachers
        ],
        benchmarks=BENCHMARKS.files,
    output:
        runs=f"{RESULTS}/runs.parquet",
        csv=f"{RESULTS}/runs.csv",
        references=f"{RESULTS}/references.json",
        samples=f"{RESULTS}/samples.json",
    log:
        f"logs/collect_runs/{RESULTS}.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        spec=PLAN.collect_spec() | BENCHMARKS.collect_spec(),
        code=code("collect_runs", *INSTRUCTIONS),
    script:
        "../scripts/collect_runs.py"
