"""From the records of a study to its runs table."""

if PLAN.pool.asks:

    rule check_near_duplicates:
        """Check that no test prompt has a near-duplicate among the training prompts."""
        input:
            test=PLAN.outputs.test_prompts,
            train=PLAN.outputs.train_prompts,
        output:
            report=PLAN.pool.near_duplicates,
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
    """Write the runs table: one row per run of the run table."""
    input:
        **PLAN.outputs.table_inputs(),
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
        spec=PLAN.outputs.table_spec() | PLAN.benchmarks.table_spec(),
        code=code("collect_runs"),
    script:
        "../scripts/collect_runs.py"
