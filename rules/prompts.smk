"""Prompts in parts: candidates in parallel, then a filter from part to part."""

if PLAN.pool.magpie:

    rule synthesise_prompts:
        """Generate candidate prompts with the teacher (Magpie)."""
        input:
            model=PLAN.teachers.file(PLAN.study.prompts.teacher),
        output:
            part="resources/prompts/{prompts}/raw/{split}-{part}.parquet",
        log:
            "logs/synthesise_prompts/{prompts}/{split}-{part}.log",
        benchmark:
            "logs/synthesise_prompts/{prompts}/{split}-{part}.tsv"
        priority: 20
        conda:
            "../envs/model.yaml"
        threads: lambda wildcards: PLAN.pool.spec["threads"]
        resources:
            device=lambda wildcards: PLAN.teachers.gpus(PLAN.study.prompts.teacher),
            gpu=lambda wildcards: PLAN.teachers.gpus(PLAN.study.prompts.teacher),
            teacher=PLAN.study.prompts.teacher,
            mem_mb=lambda wildcards, attempt: 4000 * attempt,
            runtime=lambda wildcards, attempt: 60 * attempt,
        params:
            spec=lambda wildcards: PLAN.pool.raw_spec(
                wildcards.split, int(wildcards.part)
            ),
            code=code("synthesise_prompts"),
        script:
            "../scripts/synthesise_prompts.py"

else:

    rule slice_prompts:
        """Take one part of the candidates from a data set in seeded order."""
        input:
            rows=PLAN.sources.rows(PLAN.study.prompts.source),
        output:
            part="resources/prompts/{prompts}/raw/{split}-{part}.parquet",
        log:
            "logs/slice_prompts/{prompts}/{split}-{part}.log",
        conda:
            "../envs/analysis.yaml"
        resources:
            mem_mb=lambda wildcards, attempt: 2000 * attempt,
            runtime=10,
        params:
            spec=lambda wildcards: PLAN.pool.raw_spec(
                wildcards.split, int(wildcards.part)
            ),
            source=PLAN.study.prompts.source,
            code=code("slice_prompts"),
        script:
            "../scripts/slice_prompts.py"


rule filter_prompts:
    """Drop near-duplicates of held-out and earlier prompts; keep exactly part_size prompts."""
    input:
        raw="resources/prompts/{prompts}/raw/{split}-{part}.parquet",
        earlier=lambda wildcards: PLAN.pool.earlier_parts(
            wildcards.split, int(wildcards.part)
        ),
    output:
        part="resources/prompts/{prompts}/{split}-{part}.parquet",
    log:
        "logs/filter_prompts/{prompts}/{split}-{part}.log",
    priority: 30
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        spec=lambda wildcards: PLAN.pool.filter_spec(
            wildcards.split, int(wildcards.part)
        ),
        code=code("filter_prompts"),
    script:
        "../scripts/filter_prompts.py"
