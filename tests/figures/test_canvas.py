import hashlib
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as Canvas

from distill.core.errors import UserError
from distill.figures import canvas
from distill.figures.axes import on_one_row, shortened, tick_text, wrapped
from distill.figures.canvas import draw_figure
from distill.figures.catalogue import FIGURES, OF_LAWS, figure_table
from distill.figures.draw import caches
from distill.figures.styles import looks_of
from distill.table.lines import lines_of, prepare_runs
from synthetic_runs import CACHES, make_references, make_runs, make_search


def draw(name: str, folder: Path, runs: pd.DataFrame, references: dict | None) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{name}.{end}" for end in ("svg", "png", "csv")]
    draw_figure(name, runs, references, *paths)
    return paths


def canvas_of(name: str, runs: pd.DataFrame, references: dict | None = None) -> Canvas:
    """Lay a figure out without writing it."""
    table = figure_table(name, runs, references)
    with mpl.rc_context():
        return canvas._canvas(name, table, runs)


def texts_of(canvas: Canvas) -> list[str]:
    found = [text.get_text() for text in canvas.texts]
    found += [text.get_text() for axes in canvas.axes for text in axes.texts]
    found += [text.get_text() for legend in canvas.legends for text in legend.get_texts()]
    return found


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_laid_out_without_references(name: str) -> None:
    needs_more = {"cache_cost", "search", "distillation_gap", "curation_effect", *OF_LAWS}
    needs_more.remove("size_curves")
    assert bool(canvas_of(name, make_runs()).axes) == (name not in needs_more)


def test_a_figure_is_written_in_three_forms(tmp_path: Path) -> None:
    svg, png, csv = draw("quality_speed", tmp_path, make_runs(), None)
    assert svg.read_text().rstrip().endswith("</svg>")
    assert png.read_bytes().startswith(b"\x89PNG")
    table = figure_table("quality_speed", make_runs(), None)
    assert csv.read_text() == table.to_csv(index=False)


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    digests = []
    for folder in ("one", "two"):
        paths = draw("perplexity", tmp_path / folder, make_runs(), make_references())
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in paths])
    assert digests[0] == digests[1]


def test_a_table_of_four_columns_is_enough_for_perplexity() -> None:
    runs = make_runs()[["student", "method", "samples", "loss"]]
    assert canvas_of("perplexity", runs).axes
    assert canvas_of("perplexity", runs[runs["samples"] == 64]).axes


def test_nothing_is_written_without_the_column(tmp_path: Path) -> None:
    runs = make_runs()[["student", "method", "samples", "loss"]]
    with pytest.raises(UserError, match="total_flops"):
        draw("flops", tmp_path, runs, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("cache_cost", "No student and method\nhas several caches."),
        ("search", "This study has no search."),
        ("kl_gap", "No run has a value\nof kl_teacher."),
    ],
)
def test_a_figure_of_nothing_says_so(name: str, told: str) -> None:
    canvas = canvas_of(name, make_runs().assign(kl_teacher=None))
    assert texts_of(canvas) == [told]
    assert not canvas.axes


def test_student_and_method_are_told_apart() -> None:
    lines = lines_of(prepare_runs(make_runs(caches=tuple(CACHES))))
    looks = looks_of(lines)
    assert len({(looks[x.label].colour, looks[x.label].marker) for x in lines}) == len(lines)
    for line in lines:
        same = [x for x in lines if x.student == line.student]
        assert {looks[x.label].colour for x in same} == {looks[line.label].colour}
        twin = [x for x in lines if (x.method, x.cache) == (line.method, line.cache)]
        assert {(looks[x.label].marker, looks[x.label].dash) for x in twin} == {
            (looks[line.label].marker, looks[line.label].dash)
        }


@pytest.mark.parametrize("name", ["perplexity", "flops", "quality_speed", "cache_cost"])
def test_long_names_and_many_caches_stay_inside(name: str) -> None:
    runs = make_runs(caches=tuple(CACHES))
    runs["method"] = runs["method"].replace("kd", "forward-kl-at-temperature-2-and-cross-entropy")
    runs["cache"] = runs["cache"].replace("top64", "likeliest-64-with-the-rest-in-one-bucket")
    runs["student"] = runs["student"].replace("layers-2", "smollm2-135m-instruct-cut-to-2-layers")
    runs.loc[runs["samples"] == 64, "kl_teacher"] = 0.0
    references = make_references()
    canvas = canvas_of(name, runs, references)
    canvas.draw_without_rendering()
    renderer: Any = canvas.canvas.get_renderer()  # type: ignore[attr-defined]
    width, height = canvas.get_size_inches() * canvas.dpi
    boxes = [legend.get_window_extent(renderer) for legend in canvas.legends]
    for axes in canvas.axes:
        boxes += [text.get_window_extent(renderer) for text in axes.texts]
        boxes += [axes.yaxis.label.get_window_extent(renderer)]
        boxes += [label.get_window_extent(renderer) for label in axes.get_yticklabels()]
    assert boxes
    for box in boxes:
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= width + 1
        assert box.y1 <= height + 1


def test_names_of_caches_do_not_overlap() -> None:
    runs = make_runs(caches=tuple(CACHES))
    runs["cache_bytes_per_token"] = runs["cache"].map(
        {"top64": 100.0, "hidden": 101.0, "drawn50": 102.0, "top4": 103.0}
    )
    names = ["top64", "hidden", "drawn50", "top4"]
    table = figure_table("cache_cost", runs, None)
    _, spots = caches.cache_places(table, names)
    assert (np.diff(spots) >= 0.229).all()


def test_every_search_has_its_colour() -> None:
    references = make_references()
    references["searches"]["weights"] = make_search(6)
    canvas = canvas_of("search", make_runs(), references)
    (axes,) = canvas.axes
    stars = [line for line in axes.get_lines() if line.get_marker() == "*"]
    assert len({str(line.get_color()) for line in stars}) == 2
    assert [text for text in texts_of(canvas) if text in ("rates", "weights")] == [
        "rates", "weights",
    ]  # fmt: skip


def test_many_lines_and_hostile_values_are_drawn() -> None:
    runs = pd.concat(
        [make_runs(seed=k).assign(student=f"a-rather-long-name-{k}") for k in range(8)]
    )
    runs.loc[runs["samples"] == 64, "kl_teacher"] = 0.0
    for name in ("kl_gap", "quality_size"):
        assert canvas_of(name, runs, make_references()).legends


def test_names_are_shortened_in_their_middle() -> None:
    assert shortened("short") == "short"
    assert shortened("a" * 30 + "b" * 30) == "a" * 12 + "…" + "b" * 13
    assert wrapped("layers-2 · kd") == "layers-2 · kd"
    assert wrapped("a-long-student-name · a-long-method") == "a-long-student-name\na-long-method"
    assert len(on_one_row(" · ".join(["x" * 60] * 3), 52)) <= 52


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.5, "0.5"), (-2, "−2"), (1e13, "10¹³"), (2e12, "2·10¹²"), (1500, "1,500"),
     (2e6, "2 M"), (1.555e-6, "1.555·10⁻⁶"), (1e-5, "10⁻⁵"), (0.0002, "2·10⁻⁴"), (0.002, "0.002")],
)  # fmt: skip
def test_ticks_are_short(value: float, text: str) -> None:
    assert tick_text(value) == text


def test_thousands_of_runs_are_an_image_within_the_picture(tmp_path: Path) -> None:
    runs = make_runs()
    many = pd.concat([runs.assign(seed=seed) for seed in range(150)], ignore_index=True)
    few, all_of_them = (
        draw("perplexity", tmp_path / name, table, None)[0].read_text()
        for name, table in (("few", runs), ("many", many))
    )
    assert "<image" not in few
    assert all_of_them.count("<image") == len(lines_of(prepare_runs(many)))
    assert len(all_of_them) < 4 * len(few)
