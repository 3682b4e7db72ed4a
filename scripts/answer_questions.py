"""Answer the study's questions from its runs table."""

import pandas as pd

from distill.files import read_json, write_json
from distill.job import job
from distill.verdict import diminishing_returns

with job(snakemake):
    runs = pd.read_parquet(snakemake.input.runs)
    references = read_json(snakemake.input.references)
    cost = snakemake.params.spec["cost"]
    write_json(snakemake.output.answers, diminishing_returns(runs, references, cost))
