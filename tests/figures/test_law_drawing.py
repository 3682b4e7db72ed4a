from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib.figure import Figure as Canvas

from distill.figures import canvas
from distill.figures.canvas import GRID_DRAWERS, draw_figure
from distill.figures.catalogue import FIGURES, GRIDS, figure_table
from distill.figures.panels import WIDTH, few_ticks, short_text
from figure_study import make_references, make_study, study_laws

pytestmark = pytest.mark.slow  # fits many laws


def canvas_of(name: str, runs: pd.DataFrame, laws: dict[str, Any] | None) -> Canvas:
    table = figure_table(name, runs, make_references(), laws)
    with mpl.rc_context():
        mpl.rcParams.update({"text.parse_math": False})
        return canvas._canvas(name, table, runs)


def outside(canvas: Canvas) -> list[str]:
    """Texts of a canvas that leave it."""
    canvas.draw_without_rendering()
    renderer: Any = canvas.canvas.get_renderer()  # type: ignore[attr-defined]
    width, height = canvas.get_size_inches() * canvas.dpi
    texts = list(canvas.texts) + [t for legend in canvas.legends for t in legend.get_texts()]
    for axes in canvas.axes:
        if axes.get_visible():
            texts += [axes.yaxis.label, axes.xaxis.label]
            for axis, ends in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
                low, high = sorted(ends)  # ticks beyond the ends are not drawn
                ticks = axis.get_major_ticks()
                texts += [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]
    out = []
    for text in texts:
        box = text.get_window_extent(renderer)
        if box.width and (box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1):
            out.append(text.get_text())
    return out


def test_every_grid_has_its_drawer() -> None:
    grids = {name for name, figure in FIGURES.items() if figure.kind == "grid"}
    assert set(GRIDS) == set(GRID_DRAWERS) == grids


@pytest.mark.parametrize("name", GRIDS)
def test_figures_are_half_a_column_wide_and_hold_their_texts(name: str) -> None:
    canvas = canvas_of(name, make_study(curations=name == "curation_effect"), study_laws())
    assert canvas.get_size_inches()[0] == WIDTH
    assert any(axes.lines or axes.patches for axes in canvas.axes)
    assert outside(canvas) == []


@pytest.mark.parametrize("name", GRIDS)
def test_nothing_to_draw_is_said(name: str) -> None:
    runs = make_study()[["student", "method", "samples", "loss"]]
    canvas = canvas_of(name, runs, {"laws": []})
    assert [text.get_text() for text in canvas.texts] == [FIGURES[name].empty]
    assert not canvas.axes
    assert outside(canvas) == []


@pytest.mark.parametrize("name", ["law_curves", "exponents", "flops_split", "pareto"])
def test_long_names_stay_inside(name: str) -> None:
    runs = make_study()
    long = {"w64": "smollm2-135m-instruct-with-64-dimensions", "w128": "a-student" * 5}
    document = study_laws()
    laws = [
        {**law, "selected": {**law["selected"],
                             "student": long.get(law["selected"]["student"],
                                                 law["selected"]["student"])}}
        for law in document["laws"]
    ]  # fmt: skip
    canvas = canvas_of(name, runs.replace({"student": long}), {"laws": laws})
    assert canvas.axes
    assert outside(canvas) == []


def test_a_panel_without_a_law_says_so() -> None:
    document = study_laws()
    method = document["laws"][0]["selected"]["method"]
    laws = [
        law for law in document["laws"]
        if law["target"] != "loss" or law["selected"]["method"] != method
    ]  # fmt: skip
    for known, missing in ((document["laws"], 0), (laws, 1)):
        canvas = canvas_of("law_curves", make_study(), {"laws": known})
        said = [text.get_text() for axes in canvas.axes for text in axes.texts]
        assert said.count("no law is determined") == missing


def test_written_in_three_forms(tmp_path: Path) -> None:
    paths = [tmp_path / f"judged.{end}" for end in ("svg", "png", "csv")]
    draw_figure("judged", make_study(), make_references(), *paths, laws=study_laws())
    table = figure_table("judged", make_study(), make_references(), study_laws())
    assert paths[0].read_text().rstrip().endswith("</svg>")
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    assert paths[2].read_text() == table.to_csv(index=False)


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [(1.0, 1e4, [1, 10, 100, 1000, 10000]), (1.5, 3.4, [2, 2.5, 3]), (30, 40, [30, 35, 40])],
)
def test_ticks_are_few_and_round(low: float, high: float, wanted: list[float]) -> None:
    found = few_ticks(low, high, 5)
    assert 3 <= len(found) <= 5
    assert all(low <= tick <= high for tick in found)
    if low != 1.5:
        assert found == wanted


def test_ticks_are_short() -> None:
    texts = [short_text(v) for v in (12_000, 3.5e6, 0.25, 0)]
    assert texts == ["12 k", "3.5 M", "0.25", "0"]
