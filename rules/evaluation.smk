"""Evaluation of students and teachers, and timing of architectures."""

INSTRUCTIONS = [
    "scripts/distill/evaluation/instructions_50.json",
    "scripts/distill/evaluation/instruction_wordings.json",
]


rule evaluate_student:
    """Evaluate one student: held-out loss, KL, reference text and instructions."""
    input:
        unpack(lambda wildcards: PLAN.evaluation.inputs(wildcards.teacher)),
        model=f"{STUDENT}/model.safetensors",
        training=[f"{STUDENT}/training.json"],
        shard=lambda wildcards: PLAN.shards.input(run_of(wildcards)),
    output:
        metrics=f"{STUDENT}/metrics.json",
        responses=f"{STUDENT}/responses.jsonl",
    log:
        f"logs/evaluate_student/{STUDENT}.log",
    benchmark:
        f"logs/evaluate_student/{STUDENT}.tsv"
    conda:
        "../envs/model.yaml"
    threads: PLAN.study.evaluate.threads
    resources:
        device=1,
        gpu=1,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        spec=lambda wildcards: PLAN.evaluation.run_spec(run_of(wildcards)),
        code=code("evaluate_model", *INSTRUCTIONS),
    script:
        "../scripts/evaluate_model.py"


rule evaluate_teacher:
    """Evaluate one teacher with the same measures, for reference lines."""
    input:
        unpack(lambda wildcards: PLAN.evaluation.inputs(wildcards.teacher)),
        model=lambda wildcards: PLAN.teachers.file(wildcards.teacher),
        training=[],
        shard=[],
    output:
        metrics=f"{RESULTS}/teachers/{{teacher}}/metrics.json",
        responses=f"{RESULTS}/teachers/{{teacher}}/responses.jsonl",
    log:
        f"logs/evaluate_teacher/{RESULTS}/{{teacher}}.log",
    benchmark:
        f"logs/evaluate_teacher/{RESULTS}/{{teacher}}.tsv"
    priority: 8
    conda:
        "../envs/model.yaml"
    threads: PLAN.study.evaluate.threads
    resources:
        device=lambda wildcards: PLAN.teachers.gpus(wildcards.teacher),
        gpu=lambda wildcards: PLAN.teachers.gpus(wildcards.teacher),
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        spec=lambda wildcards: PLAN.evaluation.spec(wildcards.teacher),
        code=code("evaluate_model", *INSTRUCTIONS),
    script:
        "../scripts/evaluate_model.py"


rule measure_efficiency:
    """Time one architecture and measure its memory; no other job runs meanwhile."""
    input:
        model=lambda wildcards: PLAN.efficiency.model(
            *PLAN.efficiency.by_key[wildcards.architecture]
        ),
    output:
        record=f"{RESULTS}/efficiency/{{architecture}}.json",
    log:
        f"logs/measure_efficiency/{RESULTS}/{{architecture}}.log",
    conda:
        "../envs/model.yaml"
    threads: PLAN.study.evaluate.latency_threads
    resources:
        device=999,
        gpu=1,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        spec=lambda wildcards: PLAN.efficiency.spec(wildcards.architecture),
        code=code("measure_efficiency"),
    script:
        "../scripts/measure_efficiency.py"
