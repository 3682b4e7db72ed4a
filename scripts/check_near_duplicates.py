"""Compare every test prompt with every training prompt of the study."""

from distill.data.near_duplicates import check_near_duplicates
from distill.runtime.job import job

with job(snakemake):
    check_near_duplicates(
        test=list(snakemake.input.test),
        train=list(snakemake.input.train),
        threshold=snakemake.params.threshold,
        out=snakemake.output.report,
    )
