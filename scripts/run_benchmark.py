"""Score a student or a teacher on a benchmark."""

from distill.job import job

with job(snakemake):
    from distill.harness import run_benchmark

    run_benchmark(snakemake.input.model, snakemake.params.spec, snakemake.output.record)
