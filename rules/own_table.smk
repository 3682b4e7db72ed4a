"""Your own table of runs, in place of trained students."""


rule take_runs_table:
    """Convert your table to a runs table."""
    input:
        table=PLAN.runs_table.path,
    output:
        runs=f"{RESULTS}/runs.parquet",
        csv=f"{RESULTS}/runs.csv",
        references=f"{RESULTS}/references.json",
    log:
        f"logs/take_runs_table/{RESULTS}.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        spec=PLAN.model_dump(exclude_none=True),
        content=content_mark(PLAN.runs_table.path),
        code=code("take_runs_table"),
    script:
        "../scripts/take_runs_table.py"
