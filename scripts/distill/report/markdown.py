"""A study's results as Markdown, to be kept on a page of documentation beside what people write."""

import shutil
from collections.abc import Mapping, Sequence
from os.path import relpath
from pathlib import Path
from typing import Any

import pandas as pd

from distill.answers.wording import plural
from distill.core.display import visible
from distill.core.errors import UserError
from distill.core.files import read_json, write_text
from distill.core.parquet import read_frame
from distill.core.quantities import number
from distill.figures.figure import find_figure

BEGIN = "<!-- results: written by distill page -->"
END = "<!-- end of results -->"
CELL = ("student", "method", "curation", "cache", "samples")
"""Columns whose equal values make runs a row of the page's table."""
COLUMNS: Mapping[str, str] = {
    "params": "parameters",
    "loss": "loss",
    "unigram_loss": "unigram loss",
    "kl_teacher": "KL",
    "pass_rate": "pass rate",
    "pass_rate_large": "pass rate, larger set",
    "total_flops": "FLOPs",
}
"""Columns of the page's table, none of which depends on the machine, with their headings."""


def results_text(results: Path, images: Sequence[str]) -> str:
    """The results of a study as Markdown.

    Args:
        results: The study's folder, with runs.parquet, references.json and answers.json.
        images: Links of figures that are shown.

    Raises:
        UserError: A file of the study is missing.
    """
    for name in ("runs.parquet", "references.json", "answers.json"):
        if not (results / name).is_file():
            raise UserError(f"{results / name} is missing; run the study to its end first")
    references, answers = (
        read_json(results / "references.json"),
        read_json(results / "answers.json"),
    )
    lines = ["## Results", ""]
    if machines := references.get("hardware"):
        lines += [f"Measured on {' and '.join(map(_plain, machines))}.", ""]
    for link in images:
        lines += [f"![{find_figure(Path(link).stem).title}]({link})", ""]
    lines += [*_table(read_frame(results / "runs.parquet")), "", "## Answers", ""]
    for question, told in _by_question(answers["answers"], "answered").items():
        lines += [f"**{question}**", ""]
        lines += [f"- {_labelled(one)}{_plain(one['answer'])}" for one in told] + [""]
    if unanswered := _by_question(answers["answers"], "cannot_tell"):
        lines += ["## Not answered by this study", ""]
        lines += [
            f"- {question} ({plural(len(told), 'case')})" for question, told in unanswered.items()
        ]
    return "\n".join(lines) + "\n"


def _by_question(
    answers: Sequence[Mapping[str, Any]], status: str
) -> dict[str, list[Mapping[str, Any]]]:
    """The answers of a status by their question, in the order of the file."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for one in answers:
        if one["status"] == status:
            found.setdefault(_plain(one["question"]), []).append(one)
    return found


def _labelled(answer: Mapping[str, Any]) -> str:
    """The runs that an answer is about, before its sentence; nothing for the whole study."""
    return f"{_plain(answer['label'])}: " if answer.get("label") else ""


def _plain(text: str) -> str:
    """A text on one line, without characters that Markdown interprets in tables or as tags."""
    line = " ".join(visible(str(text)).split())
    return line.replace("|", "\\|").replace("<", "&lt;")


def _table(runs: pd.DataFrame) -> list[str]:
    """Means over the runs of each cell."""
    names = [name for name in CELL if name in ("student", "method", "samples")]
    names += [name for name in ("curation", "cache") if runs[name].nunique() > 2]
    names.sort(key=CELL.index)
    columns = [name for name in COLUMNS if name in runs and runs[name].notna().any()]
    head = [*names, "runs", *(COLUMNS[name] for name in columns)]
    lines = [_row(head), _row(["---"] * len(head))]
    for keys, cell in runs.groupby(names, sort=True):
        values = [number(pd.to_numeric(cell[name]).mean()) for name in columns]
        lines.append(_row([*(_plain(str(key)) for key in keys), str(len(cell)), *values]))
    return lines


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def fill_page(page: Path, results: Path, figures: Sequence[str], images: Path) -> list[Path]:
    """Write a study's results between the two marks of a page, and copy its figures.

    Args:
        page: A Markdown file with the lines `BEGIN` and `END`.
        results: The study's folder.
        figures: Names of figures to show.
        images: Folder for their pictures.

    Returns:
        The files written.

    Raises:
        UserError: The page lacks the marks, or a figure or result is missing.
    """
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise UserError(
            f"{page} needs the lines {BEGIN} and {END}, between which results are written"
        )
    copies = {results / "figures" / f"{name}.svg": images / f"{name}.svg" for name in figures}
    for source in copies:
        if not source.is_file():
            raise UserError(f"{source} is missing; the study has no figure {source.stem}")
    links = [Path(relpath(target, page.parent)).as_posix() for target in copies.values()]
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    write_text(page, f"{before}{BEGIN}\n\n{results_text(results, links)}\n{END}{after}")
    images.mkdir(parents=True, exist_ok=True)
    for source, target in copies.items():
        shutil.copyfile(source, target)
    return [page, *copies.values()]
