"""Fetch models and data."""


rule fetch_model:
    """Download or link a model; convert it to safetensors."""
    input:
        files=lambda wildcards: PLAN.sources.local_files(
            PLAN.sources.models[wildcards.source]
        ),
        base=lambda wildcards: PLAN.sources.base(PLAN.sources.models[wildcards.source]),
    output:
        manifest="resources/models/{source}/manifest.json",
    log:
        "logs/fetch_model/{source}.log",
    benchmark:
        "logs/fetch_model/{source}.tsv"
    conda:
        "../envs/model.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        spec=lambda wildcards: PLAN.sources.spec(PLAN.sources.models[wildcards.source]),
        content=lambda wildcards: [
            content_mark(path)
            for path in PLAN.sources.local_files(PLAN.sources.models[wildcards.source])
        ],
        code=code("fetch_model"),
    script:
        "../scripts/fetch_model.py"


rule fetch_data:
    """Download or read a data set; keep its named fields."""
    input:
        lambda wildcards: PLAN.sources.local_files(PLAN.sources.data[wildcards.source]),
    output:
        rows="resources/data/{source}/rows.parquet",
    log:
        "logs/fetch_data/{source}.log",
    conda:
        "../envs/model.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        spec=lambda wildcards: PLAN.sources.spec(PLAN.sources.data[wildcards.source]),
        content=lambda wildcards: [
            content_mark(path)
            for path in PLAN.sources.local_files(PLAN.sources.data[wildcards.source])
        ],
        code=code("fetch_data"),
    script:
        "../scripts/fetch_data.py"
