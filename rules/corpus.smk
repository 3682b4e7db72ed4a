"""The text of a corpus: all chunks in one job, then parts of them as rows."""

CHUNKS = PLAN.pool.folder


rule chunk_corpus:
    """Split documents, drop near-duplicates of held-out ones, cut the rest into chunks."""
    input:
        texts=PLAN.pool.files,
        model=PLAN.pool.tokenizer,
    output:
        test=f"{CHUNKS}/test.parquet",
        validation=f"{CHUNKS}/validation.parquet",
        train=f"{CHUNKS}/train.parquet",
        record=f"{CHUNKS}/documents.json",
    log:
        f"logs/chunk_corpus/{PLAN.pool.key}.log",
    benchmark:
        f"logs/chunk_corpus/{PLAN.pool.key}.tsv"
    priority: 30
    conda:
        "../envs/model.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        spec=PLAN.pool.spec,
        code=code("chunk_corpus"),
    script:
        "../scripts/chunk_corpus.py"


rule take_chunks:
    """Write one part of a split as rows of text, masked for task masked-lm."""
    input:
        chunks=f"{CHUNKS}/{{split}}.parquet",
        model=PLAN.pool.tokenizer,
    output:
        part="resources/text/{text}/{split}-{part}.parquet",
    log:
        "logs/take_chunks/{text}/{split}-{part}.log",
    priority: 25
    conda:
        "../envs/model.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=30,
    params:
        spec=PLAN.pool.text_spec,
        first=lambda wildcards: PLAN.pool.first(int(wildcards.part)),
        rows=lambda wildcards: PLAN.pool.rows(wildcards.split, int(wildcards.part)),
        code=code("take_chunks"),
    script:
        "../scripts/take_chunks.py"
