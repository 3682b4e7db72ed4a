"""Score a student or a teacher on a benchmark."""

from distill.runtime.job import job

with job(snakemake):
    from distill.evaluation.benchmarks import run_benchmark
    from distill.runtime.out_of_memory import memory_hint

    spec = snakemake.params.spec
    what = f"scoring {spec['batch_size']} documents at once"
    with memory_hint(what, "lower evaluate.batch_size"):
        run_benchmark(snakemake.input.model, spec, snakemake.output.record)
