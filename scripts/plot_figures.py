"""Draw every figure of the report."""

from pathlib import Path

from distill.core.files import read_json
from distill.core.parquet import read_frame
from distill.figures.canvas import draw_figure
from distill.runtime.job import job

with job(snakemake):
    files, out = snakemake.input, snakemake.output
    references, laws = read_json(files.references), read_json(files.laws)
    runs = read_frame(files.runs)
    for svg, png, csv in zip(out.svg, out.png, out.csv, strict=True):
        draw_figure(Path(svg).stem, runs, references, svg, png, csv, laws=laws)
