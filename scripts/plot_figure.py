"""Draw one figure of the report."""

import pandas as pd

from distill.drawing import draw_figure
from distill.files import read_json
from distill.job import job

with job(snakemake):
    files, out = snakemake.input, snakemake.output
    references = read_json(files.references)
    runs = pd.read_parquet(files.runs)
    name, laws = snakemake.wildcards.figure, read_json(files.laws)
    draw_figure(name, runs, references, out.svg, out.png, out.csv, laws=laws)
