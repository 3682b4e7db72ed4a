"""Shards: rows that curations keep, training data of runs, data-set cards."""

CURATED = f"{RESULTS}/curated/{{teacher}}/{{curation}}/draw{{draw}}/n{{samples}}"
SHARDS = f"{RESULTS}/shards/{{teacher}}/{{curation}}/{{cache}}"
CORPUS = f"{RESULTS}/shards/corpus/{{corpus}}"


rule curate_rows:
    """Select the rows that a curation keeps, in the order of a draw; record each decision."""
    input:
        texts=lambda wildcards: PLAN.curations.texts(run_of(wildcards)),
        losses=lambda wildcards: PLAN.curations.losses(run_of(wildcards)),
        donors=lambda wildcards: PLAN.curations.donors(run_of(wildcards)),
    output:
        text=f"{CURATED}.text.parquet",
        decisions=f"{CURATED}.decisions.parquet",
    log:
        f"logs/curate_rows/{CURATED}.log",
    priority: 12  # report too few rows before computing their soft targets
    conda:
        "../envs/analysis.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        spec=lambda wildcards: PLAN.curations.spec(run_of(wildcards)),
        rows=lambda wildcards: PLAN.rows.of(run_of(wildcards)),
        name=lambda wildcards: wildcards.curation,
        code=code("curate_rows"),
    script:
        "../scripts/curate_rows.py"


rule build_shard:
    """Collect the training data of one run: a prefix of the pool in the order of a draw."""
    input:
        texts=lambda wildcards: PLAN.shards.texts(run_of(wildcards)),
        targets=lambda wildcards: PLAN.shards.targets(run_of(wildcards)),
        layers=lambda wildcards: PLAN.shards.layers(run_of(wildcards)),
        manifest=lambda wildcards: PLAN.shards.manifest(run_of(wildcards)),
        decisions=lambda wildcards: PLAN.curations.decisions(run_of(wildcards)),
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
        spec=lambda wildcards: PLAN.shards.spec(run_of(wildcards)),
        rows=lambda wildcards: PLAN.shards.order(run_of(wildcards)),
        code=code("build_shard"),
    script:
        "../scripts/build_shard.py"


rule build_corpus_shard:
    """Collect chunks of a corpus in the order of a draw, for training without a teacher."""
    input:
        unpack(lambda wildcards: PLAN.corpora.inputs(wildcards.corpus)),
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
        spec=lambda wildcards: PLAN.corpora.shard_spec(
            wildcards.corpus, int(wildcards.draw), int(wildcards.samples)
        ),
        code=code("build_corpus_shard"),
    script:
        "../scripts/build_corpus_shard.py"


rule write_corpus_card:
    """Write the data-set card of a folder of corpus shards."""
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
        spec=lambda wildcards: PLAN.corpora.card(wildcards.corpus),
        code=code("write_corpus_card", "report/cards/corpus_shards.md.j2"),
    script:
        "../scripts/write_corpus_card.py"


rule write_card:
    """Write the data-set card of a folder of shards."""
    input:
        records=lambda wildcards: PLAN.shards.card_records(
            wildcards.teacher, wildcards.curation, wildcards.cache
        ),
        data=PLAN.pool.files,
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
        spec=lambda wildcards: PLAN.shards.card_spec(
            wildcards.teacher, wildcards.curation, wildcards.cache
        ),
        code=code("write_card", "report/cards/shards.md.j2"),
    script:
        "../scripts/write_card.py"
