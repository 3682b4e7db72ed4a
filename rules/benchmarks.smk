"""Scores of students and teachers on tasks of lm-evaluation-harness."""

import re


wildcard_constraints:
    task="|".join(re.escape(task) for task in PLAN.benchmarks.tasks) or "none",


rule prepare_benchmark:
    """Load a task and its data, so that missing data are reported before any training."""
    input:
        lambda wildcards: PLAN.benchmarks.task_files(wildcards.task),
    output:
        record=f"{RESULTS}/benchmarks/{{task}}.json",
    log:
        f"logs/prepare_benchmark/{RESULTS}/{{task}}.log",
    priority: 100
    conda:
        "../envs/harness.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
    params:
        spec=lambda wildcards: PLAN.benchmarks.task_spec(wildcards.task),
        code=code("prepare_benchmark"),
    script:
        "../scripts/prepare_benchmark.py"


rule benchmark_student:
    """Score one student on one task."""
    input:
        task=f"{RESULTS}/benchmarks/{{task}}.json",
        model=f"{STUDENT}/model.safetensors",
    output:
        record=f"{STUDENT}/benchmarks/{{task}}.json",
    log:
        f"logs/benchmark_student/{STUDENT}/{{task}}.log",
    benchmark:
        f"logs/benchmark_student/{STUDENT}/{{task}}.tsv"
    conda:
        "../envs/harness.yaml"
    threads: PLAN.study.evaluate.threads
    resources:
        device=1,
        gpu=1,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 600 * attempt,
    params:
        spec=lambda wildcards: PLAN.benchmarks.student_spec(
            run_of(wildcards), wildcards.task
        ),
        code=code("run_benchmark"),
    script:
        "../scripts/run_benchmark.py"


rule benchmark_teacher:
    """Score one teacher on one task, with the teacher's quantisation."""
    input:
        task=f"{RESULTS}/benchmarks/{{task}}.json",
        model=lambda wildcards: PLAN.teachers.file(wildcards.teacher),
    output:
        record=f"{RESULTS}/teachers/{{teacher}}/benchmarks/{{task}}.json",
    log:
        f"logs/benchmark_teacher/{RESULTS}/{{teacher}}/{{task}}.log",
    benchmark:
        f"logs/benchmark_teacher/{RESULTS}/{{teacher}}/{{task}}.tsv"
    conda:
        "../envs/harness.yaml"
    threads: PLAN.study.evaluate.threads
    resources:
        device=lambda wildcards: PLAN.teachers.gpus(wildcards.teacher),
        gpu=lambda wildcards: PLAN.teachers.gpus(wildcards.teacher),
        mem_mb=lambda wildcards, attempt: 6000 * attempt,
        runtime=lambda wildcards, attempt: 600 * attempt,
    params:
        spec=lambda wildcards: PLAN.benchmarks.teacher_spec(
            wildcards.teacher, wildcards.task
        ),
        code=code("run_benchmark"),
    script:
        "../scripts/run_benchmark.py"
