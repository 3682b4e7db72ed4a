"""Score a student or a teacher on a benchmark."""

from distill.runtime.model_job import model_job

# The harness needs the packages that quick imports hide.
with model_job(snakemake, threads=snakemake.params.spec["threads"], quick=False) as run:
    from distill.evaluation.benchmarks import run_benchmark

    run(
        run_benchmark,
        model_file=snakemake.input.model,
        spec=snakemake.params.spec,
        out=snakemake.output.record,
    )
