"""Students before training, hyper-parameter searches, and training."""

STUDENT = (
    f"{RESULTS}/students/{{student}}/{{teacher}}/{{method}}/{{curation}}/{{cache}}/"
    "draw{draw}-seed{seed}/n{samples}"
)


rule build_student:
    """Build a student before training: cut, pretrained or random."""
    input:
        model=lambda wildcards: PLAN.students.model(
            PLAN.students.by_key[wildcards.initial]
        ),
        vocabulary=lambda wildcards: PLAN.students.vocabulary_text(
            PLAN.students.by_key[wildcards.initial]
        ),
        tokenizer=lambda wildcards: PLAN.students.tokenizer(
            PLAN.students.by_key[wildcards.initial]
        ),
    output:
        manifest="resources/students/{initial}/manifest.json",
    log:
        "logs/build_student/{initial}.log",
    conda:
        "../envs/model.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=30,
    params:
        spec=lambda wildcards: PLAN.students.spec(
            PLAN.students.by_key[wildcards.initial]
        ),
        code=code("build_student"),
    script:
        "../scripts/build_student.py"


rule search_settings:
    """Search the best settings of a method for one student and shard with Optuna."""
    input:
        initial=lambda wildcards: PLAN.students.file(
            PLAN.study.searches[wildcards.search].student
        ),
        shard=lambda wildcards: PLAN.shards.file(PLAN.searches.run(wildcards.search)),
        heads=lambda wildcards: PLAN.training.heads(PLAN.searches.run(wildcards.search)),
        teacher=lambda wildcards: PLAN.training.teacher(
            PLAN.searches.run(wildcards.search)
        ),
        tokenizer=lambda wildcards: PLAN.training.tokenizer(
            PLAN.searches.run(wildcards.search)
        ),
        validation=lambda wildcards: PLAN.text.held_out(
            PLAN.study.searches[wildcards.search].teacher, "validation"
        ),
    output:
        best=f"{RESULTS}/searches/{{search}}/best.json",
    log:
        f"logs/search_settings/{RESULTS}/{{search}}.log",
    benchmark:
        f"logs/search_settings/{RESULTS}/{{search}}.tsv"
    priority: 6
    conda:
        "../envs/model.yaml"
    threads: PLAN.study.train.threads
    resources:
        device=1,
        gpu=1,
        attempt=lambda wildcards, attempt: attempt,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 600 * attempt,
    params:
        spec=lambda wildcards: PLAN.searches.spec(wildcards.search),
        student=lambda wildcards: PLAN.study.searches[wildcards.search].student,
        code=code("search_settings"),
    script:
        "../scripts/search_settings.py"


rule train_student:
    """Train one student on one shard."""
    input:
        initial=lambda wildcards: PLAN.students.file(wildcards.student),
        shard=lambda wildcards: PLAN.shards.input(run_of(wildcards)),
        heads=lambda wildcards: PLAN.training.heads(run_of(wildcards)),
        teacher=lambda wildcards: PLAN.training.teacher(run_of(wildcards)),
        tokenizer=lambda wildcards: PLAN.training.tokenizer(run_of(wildcards)),
        validation=lambda wildcards: PLAN.training.validation(run_of(wildcards)),
        best=lambda wildcards: PLAN.training.best_settings(run_of(wildcards)),
    output:
        model=f"{STUDENT}/model.safetensors",
        config=f"{STUDENT}/config.json",
        card=f"{STUDENT}/README.md",
        record=f"{STUDENT}/training.json",
    log:
        f"logs/train_student/{STUDENT}.log",
    benchmark:
        f"logs/train_student/{STUDENT}.tsv"
    conda:
        "../envs/model.yaml"
    threads: lambda wildcards: PLAN.study.train.threads * gpus_of(wildcards)
    resources:
        device=gpus_of,
        gpu=gpus_of,
        attempt=lambda wildcards, attempt: attempt,
        mem_mb=lambda wildcards, attempt: 4000 * gpus_of(wildcards) * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        spec=lambda wildcards: PLAN.training.spec(run_of(wildcards)),
        run=lambda wildcards: PLAN.training.record(run_of(wildcards)),
        code=code("train_student", "report/cards/student.md.j2"),
    script:
        "../scripts/train_student.py"
