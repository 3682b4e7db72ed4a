"""Time an architecture alone on this machine."""

from distill.runtime.model_job import model_job

# Memory that libraries cache would count as the model's.
with model_job(snakemake, threads=snakemake.params.spec["threads"], keep_memory=False) as run:
    from distill.evaluation.latency import measure_architecture

    run(
        measure_architecture,
        model=snakemake.input.model,
        out=snakemake.output.record,
        spec=snakemake.params.spec,
    )
