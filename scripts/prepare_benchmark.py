"""Load a benchmark's task and data."""

from distill.job import job

with job(snakemake):
    from distill.harness import prepare_benchmark

    prepare_benchmark(snakemake.params.spec, snakemake.output.record)
