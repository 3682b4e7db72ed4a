"""Measure a student or a teacher on held-out text, reference text and instructions."""

from distill.runtime.imports import quick_imports
from distill.runtime.job import job

REMEDY = "lower evaluate.batch_size (of instructions, evaluate.answers.batch_size)"

with job(snakemake):
    with quick_imports():
        from distill.evaluation.job import judge
        from distill.runtime.out_of_memory import memory_hint
    files, at_once = snakemake.input, snakemake.params.spec["batch_size"]
    with memory_hint(f"judging {at_once} rows at once", REMEDY):
        judge(
            model_file=files.model,
            texts=list(files.texts),
            states=list(files.states),
            head=files.head[0] if files.head else None,
            reference=files.reference[0] if files.reference else None,
            training=files.training[0] if files.training else None,
            shard=files.shard[0] if files.shard else None,
            served=list(files.served),
            spec=snakemake.params.spec,
            metrics=snakemake.output.metrics,
            responses=snakemake.output.responses,
            validation=list(files.validation),
        )
