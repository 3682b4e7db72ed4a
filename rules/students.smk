"""Students: what they read, what they are before training, and training."""

CURATED = f"{RESULTS}/curated/{{teacher}}/{{curation}}/draw{{draw}}/n{{samples}}"
SHARDS = f"{RESULTS}/shards/{{teacher}}/{{curation}}/{{cache}}"
CORPUS = f"{RESULTS}/shards/corpus/{{corpus}}"
STUDENT = (
    f"{RESULTS}/students/{{student}}/{{teacher}}/{{method}}/{{curation}}/{{cache}}/"
    "draw{draw}-seed{seed}/n{samples}"
)


rule curate_rows:
    """The rows that a curation keeps, in the order of a draw, and what it decided on each."""
    input:
        texts=lambda wildcards: PLAN.candidate_texts(run_of(wildcards)),
        losses=lambda wildcards: PLAN.curation_losses(run_of(wildcards)),
        donors=lambda wildcards: PLAN.donor_text(run_of(wildcards)),
    output:
        text=f"{CURATED}.text.parquet",
        decisions=f"{CURATED}.decisions.parquet",
    log:
        f"logs/curate_rows/{CURATED}.log",
    priority: 12  # too few rows kept is told before their soft targets are made
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        spec=lambda wildcards: PLAN.rows_spec(run_of(wildcards)),
        rows=lambda wildcards: PLAN.shard_rows(run_of(wildcards)),
        name=lambda wildcards: wildcards.curation,
        code=code("curate_rows"),
    script:
        "../scripts/curate_rows.py"


rule build_shard:
    """All that one student reads: a prefix of the pool in the order of a draw."""
    input:
        texts=lambda wildcards: PLAN.shard_texts(run_of(wildcards)),
        targets=lambda wildcards: PLAN.shard_targets(run_of(wildcards)),
        layers=lambda wildcards: PLAN.shard_layers(run_of(wildcards)),
        manifest=lambda wildcards: PLAN.shard_manifest(run_of(wildcards)),
        decisions=lambda wildcards: PLAN.decisions(run_of(wildcards)),
    output:
        shard=f"{SHARDS}/draw{{draw}}/n{{samples}}.parquet",
        record=f"{SHARDS}/draw{{draw}}/n{{samples}}.json",
    log:
        f"logs/build_shard/{RESULTS}/{{teacher}}/{{curation}}/{{cache}}/{{draw}}-{{samples}}.log",
    priority: 5
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        spec=lambda wildcards: PLAN.shard_spec(run_of(wildcards)),
        rows=lambda wildcards: (
            []
            if PLAN.curation(run_of(wildcards))
            else PLAN.shard_rows(run_of(wildcards))
        ),
        code=code("build_shard"),
    script:
        "../scripts/build_shard.py"


rule build_corpus_shard:
    """Chunks of a corpus in the order of a draw, for students that learn without a teacher."""
    input:
        unpack(lambda wildcards: PLAN.corpus_files(wildcards.corpus)),
    output:
        shard=f"{CORPUS}/draw{{draw}}/n{{samples}}.parquet",
        record=f"{CORPUS}/draw{{draw}}/n{{samples}}.json",
    log:
        f"logs/build_corpus_shard/{RESULTS}/{{corpus}}/{{draw}}-{{samples}}.log",
    priority: 5
    conda:
        "../envs/model.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
    params:
        spec=lambda wildcards: PLAN.corpus_shard_spec(
            wildcards.corpus, int(wildcards.draw), int(wildcards.samples)
        ),
        code=code("build_corpus_shard"),
    script:
        "../scripts/build_corpus_shard.py"


rule write_corpus_card:
    """The data-set card of a folder of shards of a corpus."""
    output:
        card=f"{CORPUS}/README.md",
    log:
        f"logs/write_corpus_card/{RESULTS}/{{corpus}}.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=500,
        runtime=5,
    params:
        spec=lambda wildcards: PLAN.corpus_card(wildcards.corpus),
        code=code("write_corpus_card"),
    script:
        "../scripts/write_corpus_card.py"


rule write_card:
    """The data-set card of a folder of shards."""
    input:
        records=lambda wildcards: PLAN.card_records(
            wildcards.teacher, wildcards.curation, wildcards.cache
        ),
    output:
        card=f"{SHARDS}/README.md",
    log:
        f"logs/write_card/{RESULTS}/{{teacher}}/{{curation}}/{{cache}}.log",
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=500,
        runtime=5,
    params:
        spec=lambda wildcards: {
            "study": PLAN.study.study,
            "teacher": wildcards.teacher,
            "curation": wildcards.curation,
            "cache": wildcards.cache,
            **({"corpus": PLAN.study.corpus.source} if PLAN.study.corpus else {}),
        },
        code=code("write_card"),
    script:
        "../scripts/write_card.py"


rule build_student:
    """A student before training: cut, pre-trained or random."""
    input:
        model=lambda wildcards: PLAN.model_manifest(
            PLAN.study.students[PLAN.student_keys[wildcards.initial]].source
        ),
        vocabulary=lambda wildcards: PLAN.vocabulary_text(
            PLAN.student_keys[wildcards.initial]
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
        spec=lambda wildcards: PLAN.student_spec(PLAN.student_keys[wildcards.initial]),
        code=code("build_student"),
    script:
        "../scripts/build_student.py"


rule search_settings:
    """The best settings of a method for one student and shard, by Optuna."""
    input:
        initial=lambda wildcards: PLAN.initial_student(
            PLAN.study.searches[wildcards.search].student
        ),
        shard=lambda wildcards: PLAN.shard(PLAN.search_run(wildcards.search)),
        heads=lambda wildcards: PLAN.train_heads(PLAN.search_run(wildcards.search)),
        teacher=lambda wildcards: PLAN.train_teacher(PLAN.search_run(wildcards.search)),
        validation=lambda wildcards: PLAN.held_out_text(
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
        spec=lambda wildcards: PLAN.search_spec(wildcards.search),
        student=lambda wildcards: PLAN.study.searches[wildcards.search].student,
        code=code("search_settings"),
    script:
        "../scripts/search_settings.py"


rule train_student:
    """Train one student on one shard."""
    input:
        initial=lambda wildcards: PLAN.initial_student(wildcards.student),
        shard=shard_of,
        heads=lambda wildcards: PLAN.train_heads(run_of(wildcards)),
        teacher=lambda wildcards: PLAN.train_teacher(run_of(wildcards)),
        validation=lambda wildcards: PLAN.validation_text(run_of(wildcards)),
        best=lambda wildcards: PLAN.best_settings(run_of(wildcards)),
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
    threads: lambda wildcards: PLAN.study.train.threads * PLAN.gpus(run_of(wildcards))
    resources:
        device=lambda wildcards: PLAN.gpus(run_of(wildcards)),
        gpu=lambda wildcards: PLAN.gpus(run_of(wildcards)),
        attempt=lambda wildcards, attempt: attempt,
        mem_mb=lambda wildcards, attempt: 4000 * PLAN.gpus(run_of(wildcards)) * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        spec=lambda wildcards: PLAN.train_spec(run_of(wildcards)),
        run=lambda wildcards: PLAN.run_record(run_of(wildcards)),
        code=code("train_student"),
    script:
        "../scripts/train_student.py"
