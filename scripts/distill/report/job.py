"""Write a study's report, from files to a file."""

from collections.abc import Sequence
from pathlib import Path

from distill.core.files import read_json
from distill.core.parquet import read_frame
from distill.report.page import write_report


def report_study(
    runs: str | Path,
    references: str | Path,
    answers: str | Path,
    laws: str | Path,
    samples: str | Path | None,
    figures: Sequence[str | Path],
    texts: Path,
    out: str | Path,
) -> None:
    """Write the study's report, one self-contained page.

    Args:
        runs: The runs table, Parquet.
        references: references.json.
        answers: answers.json.
        laws: laws.json.
        samples: samples.json; None for your own table.
        figures: SVG of each figure, its CSV beside it, in the page's order.
        texts: Directory of the template and the captions.
        out: The page, HTML.
    """
    write_report(
        read_frame(runs),
        read_json(references),
        read_json(answers),
        read_json(samples) if samples else None,
        figures,
        texts,
        texts / "report.html.j2",
        out,
        read_json(laws),
    )
