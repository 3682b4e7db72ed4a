"""Draw every figure of the report."""

from pathlib import Path

import pandas as pd

from distill.drawing import draw_figure
from distill.files import read_json
from distill.job import job

with job(snakemake):
    files, out = snakemake.input, snakemake.output
    references, laws = read_json(files.references), read_json(files.laws)
    runs = pd.read_parquet(files.runs)
    for svg, png, csv in zip(out.svg, out.png, out.csv, strict=True):
        draw_figure(Path(svg).stem, runs, references, svg, png, csv, laws=laws)
