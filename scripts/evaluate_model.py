"""Measure a student or a teacher on held-out text, reference text and instructions."""

from pathlib import Path

from distill.runtime.model_job import model_job

with model_job(snakemake, threads=snakemake.params.spec["threads"]) as run:
    from distill.evaluation.job import evaluate_model

    files = snakemake.input
    run(
        evaluate_model,
        model=files.model,
        texts=list(files.texts),
        states=list(files.states),
        head=files.head[0] if files.head else None,
        reference=files.reference[0] if files.reference else None,
        training=files.training[0] if files.training else None,
        shard=files.shard[0] if files.shard else None,
        spec=snakemake.params.spec,
        metrics=snakemake.output.metrics,
        responses=snakemake.output.responses,
        served=list(files.served),
        validation=list(files.validation),
        instructions=list(files.instructions),
        tokens_of=Path(files.tokenizer[0]).parent if files.tokenizer else None,
    )
