"""Draw a study's figures, from files to files."""

from collections.abc import Sequence
from pathlib import Path

from distill.core.files import read_json
from distill.core.parquet import read_frame
from distill.figures.draw import draw_figure
from distill.figures.figure import Inputs


def draw_study(
    runs: str | Path,
    references: str | Path,
    laws: str | Path,
    svg: Sequence[str | Path],
    png: Sequence[str | Path],
    csv: Sequence[str | Path],
) -> None:
    """Draw every figure of the report, each named by its files.

    Args:
        runs: The runs table, Parquet.
        references: references.json.
        laws: laws.json.
        svg, png, csv: Per figure its files, `<figure>.svg` and so on.
    """
    inputs = Inputs(read_frame(runs), read_json(references), read_json(laws))
    for drawing, image, numbers in zip(svg, png, csv, strict=True):
        draw_figure(Path(drawing).stem, inputs, drawing, image, numbers)
