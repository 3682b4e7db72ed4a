"""Save a teacher's output head."""

from distill.runtime.model_job import model_job

with model_job(snakemake, threads=snakemake.params.spec["threads"]) as run:
    from distill.models.head_extraction import extract_head

    run(
        extract_head,
        model=snakemake.input.model,
        out=snakemake.output.head,
        spec=snakemake.params.spec,
    )
