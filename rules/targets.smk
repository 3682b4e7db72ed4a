"""Soft targets: compressed teacher distributions for each part of the text."""

CACHE = "resources/caches/{text}/{targets}"
LAYERS = "resources/layers/{text}/{layers}"
BY_MODEL = "|".join(PLAN.text.keys_scored(True)) or "none"
BY_SERVER = "|".join(PLAN.text.keys_scored(False)) or "none"


rule write_manifest:
    """Record the teachers and the tokenizer of a cache."""
    input:
        models=lambda wildcards: PLAN.targets.tokenizers(*cache_of(wildcards)),
    output:
        manifest=f"{CACHE}/manifest.json",
    log:
        "logs/write_manifest/{text}/{targets}.log",
    conda:
        "../envs/model.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        spec=lambda wildcards: PLAN.targets.spec(*cache_of(wildcards)),
        teachers=lambda wildcards: list(PLAN.targets.teachers(*cache_of(wildcards))),
        code=code("write_manifest"),
    script:
        "../scripts/write_manifest.py"


rule cache_targets:
    """Compute soft targets of one part of a text from the teachers' final hidden states."""
    input:
        states=lambda wildcards: PLAN.targets.states(
            *cache_of(wildcards), wildcards.split, int(wildcards.part)
        ),
        heads=lambda wildcards: PLAN.targets.heads(*cache_of(wildcards)),
        text=lambda wildcards: PLAN.targets.drawn(
            *cache_of(wildcards), wildcards.split, int(wildcards.part)
        ),
    output:
        part=f"{CACHE}/{{split}}-{{part}}.parquet",
    log:
        "logs/cache_targets/{text}/{targets}/{split}-{part}.log",
    benchmark:
        "logs/cache_targets/{text}/{targets}/{split}-{part}.tsv"
    wildcard_constraints:
        text=BY_MODEL,
    priority: 10
    conda:
        "../envs/model.yaml"
    threads: lambda wildcards: PLAN.study.teachers[cache_of(wildcards)[0]].threads
    resources:
        device=1,
        gpu=1,
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        spec=lambda wildcards: PLAN.targets.spec(*cache_of(wildcards)),
        code=code("cache_targets"),
    script:
        "../scripts/cache_targets.py"


rule take_log_probs:
    """Take soft targets of one part of a text from a server's log-probabilities."""
    input:
        text="resources/text/{text}/{split}-{part}.parquet",
        answers=served_part,
        model=lambda wildcards: PLAN.text.tokenizer(text_teacher(wildcards)),
    output:
        part=f"{CACHE}/{{split}}-{{part}}.parquet",
    log:
        "logs/take_log_probs/{text}/{targets}/{split}-{part}.log",
    wildcard_constraints:
        text=BY_SERVER,
    conda:
        "../envs/model.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=10,
    params:
        spec=lambda wildcards: PLAN.targets.spec(*cache_of(wildcards)),
        code=code("take_log_probs"),
    script:
        "../scripts/take_log_probs.py"


rule fit_projection:
    """Fit the principal directions of a teacher's layers to the first training part."""
    input:
        text="resources/text/{text}/train-00000.parquet",
        model=lambda wildcards: [PLAN.teachers.file(layers_of(wildcards)[0])],
        tokenizer=lambda wildcards: PLAN.layers.tokenizer(layers_of(wildcards)[0]),
    output:
        projection=f"{LAYERS}/projection.safetensors",
    log:
        "logs/fit_projection/{text}/{layers}.log",
    conda:
        "../envs/model.yaml"
    threads: lambda wildcards: PLAN.study.teachers[layers_of(wildcards)[0]].threads
    resources:
        device=lambda wildcards: PLAN.teachers.gpus(layers_of(wildcards)[0]),
        gpu=lambda wildcards: PLAN.teachers.gpus(layers_of(wildcards)[0]),
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        spec=lambda wildcards: PLAN.layers.spec(*layers_of(wildcards)),
        code=code("fit_projection"),
    script:
        "../scripts/fit_projection.py"


rule score_layers:
    """Compute projected hidden states of chosen layers on one part of a text."""
    input:
        text="resources/text/{text}/{split}-{part}.parquet",
        model=lambda wildcards: [PLAN.teachers.file(layers_of(wildcards)[0])],
        tokenizer=lambda wildcards: PLAN.layers.tokenizer(layers_of(wildcards)[0]),
        projection=lambda wildcards: PLAN.layers.projection(*layers_of(wildcards)),
    output:
        part=f"{LAYERS}/{{split}}-{{part}}.parquet",
    log:
        "logs/score_layers/{text}/{layers}/{split}-{part}.log",
    benchmark:
        "logs/score_layers/{text}/{layers}/{split}-{part}.tsv"
    priority: 10
    conda:
        "../envs/model.yaml"
    threads: lambda wildcards: PLAN.study.teachers[layers_of(wildcards)[0]].threads
    resources:
        device=lambda wildcards: PLAN.teachers.gpus(layers_of(wildcards)[0]),
        gpu=lambda wildcards: PLAN.teachers.gpus(layers_of(wildcards)[0]),
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        spec=lambda wildcards: PLAN.layers.spec(*layers_of(wildcards)),
        code=code("score_layers"),
    script:
        "../scripts/score_layers.py"
