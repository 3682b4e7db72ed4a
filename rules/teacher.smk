"""The teacher's work: text, part by part, and its distribution on the held-out text."""


rule generate_text:
    """Answer one part of the prompts from the teacher's sampling distribution."""
    input:
        prompts=f"resources/prompts/{PLAN.prompts_key}/{{split}}-{{part}}.parquet",
        model=teacher_model,
    output:
        part="resources/text/{text}/{split}-{part}.parquet",
    log:
        "logs/generate_text/{text}/{split}-{part}.log",
    benchmark:
        "logs/generate_text/{text}/{split}-{part}.tsv"
    priority: 15
    retries: 1
    conda:
        "../envs/model.yaml"
    threads: lambda wildcards: PLAN.study.teachers[PLAN.text_keys[wildcards.text]].threads
    resources:
        device=1,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        spec=lambda wildcards: PLAN.text_spec(PLAN.text_keys[wildcards.text]),
        teacher=lambda wildcards: PLAN.text_keys[wildcards.text],
        code=code("generate_text"),
    script:
        "../scripts/generate_text.py"


rule score_text:
    """Final hidden states of the teacher on one held-out part."""
    input:
        text="resources/text/{text}/test-{part}.parquet",
        model=teacher_model,
    output:
        part="resources/scores/{text}/test-{part}.parquet",
    log:
        "logs/score_text/{text}/test-{part}.log",
    benchmark:
        "logs/score_text/{text}/test-{part}.tsv"
    priority: 10
    retries: 1
    conda:
        "../envs/model.yaml"
    threads: lambda wildcards: PLAN.study.teachers[PLAN.text_keys[wildcards.text]].threads
    resources:
        device=1,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        spec=lambda wildcards: PLAN.text_spec(PLAN.text_keys[wildcards.text]),
        code=code("score_text"),
    script:
        "../scripts/score_text.py"


rule save_head:
    """The teacher's output head, which turns final hidden states into logits."""
    input:
        model=teacher_model,
    output:
        head="resources/scores/{text}/head.safetensors",
    log:
        "logs/save_head/{text}.log",
    retries: 1
    conda:
        "../envs/model.yaml"
    resources:
        device=1,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        spec=lambda wildcards: PLAN.text_spec(PLAN.text_keys[wildcards.text]),
        code=code("save_head"),
    script:
        "../scripts/save_head.py"
