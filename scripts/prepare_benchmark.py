"""Load a benchmark's task and data."""

from distill.runtime.job import job

with job(snakemake):
    from distill.evaluation.benchmarks import prepare_benchmark

    prepare_benchmark(spec=snakemake.params.spec, out=snakemake.output.record)
