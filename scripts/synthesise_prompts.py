"""Generate one part of candidate prompts with the teacher (Magpie)."""

from distill.runtime.model_job import model_job

with model_job(snakemake, threads=snakemake.params.spec["threads"]) as run:
    from distill.teacher.generation import synthesise_part

    run(
        synthesise_part,
        model=snakemake.input.model,
        out=snakemake.output.part,
        spec=snakemake.params.spec,
        teacher=snakemake.resources.teacher,
    )
