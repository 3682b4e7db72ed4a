"""Estimated costs of a study before it runs."""


rule plan:
    """Print the run table with estimated FLOPs, time, disk and memory."""
    input:
        models=[
            PLAN.sources.manifest(source) for source in PLAN.sources.models.values()
        ],
    log:
        f"logs/plan/{RESULTS}.log",
    conda:
        "../envs/model.yaml"
    resources:
        device=999,
        gpu=1,
        mem_mb=4000,
        runtime=30,
    params:
        study=config,
        figures=FIGURES,
        cores=workflow.resource_settings.cores or 1,
        code=code("plan_study"),
    script:
        "../scripts/plan_study.py"
