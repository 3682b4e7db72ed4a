"""Draw every figure of the report."""

from pathlib import Path

from distill.core.files import read_json
from distill.core.parquet import read_frame
from distill.figures.draw import draw_figure
from distill.figures.figure import Inputs
from distill.runtime.job import job

with job(snakemake):
    files, out = snakemake.input, snakemake.output
    inputs = Inputs(read_frame(files.runs), read_json(files.references), read_json(files.laws))
    for svg, png, csv in zip(out.svg, out.png, out.csv, strict=True):
        draw_figure(Path(svg).stem, inputs, svg, png, csv)
