"""What is drawn, read back from the axes; layout; and the bytes of the files."""

import hashlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure as Canvas

from distill.contracts.columns import TEXTS
from distill.contracts.figures import FIGURES
from distill.core.errors import UserError
from distill.figures.draw import WIDTH, draw_figure
from distill.figures.figure import Inputs, find_figure
from distill.figures.styles import OKABE_ITO, Looks, shorten
from distill.table.lines import lines_of, prepare_runs
from drawing import canvas_of, outside, table_of, texts_of
from figure_study import make_references as study_references
from figure_study import make_study, study_laws
from synthetic_runs import CACHES, make_references, make_runs, make_search

pytestmark = pytest.mark.slow  # fits many laws
OF_LAWS = {"law_curves", "residuals", "exponents", "judged", "rollouts"}
OF_SIZES = {"size_curves", "distillation_gap", "flops_split", "curation_effect", "pareto"} | OF_LAWS


def full(name: str) -> tuple[pd.DataFrame, dict[str, Any], Any]:
    """A study that fills a figure: runs, references, laws."""
    if name in OF_SIZES:
        return make_study(curations=name == "curation_effect"), study_references(), study_laws()
    return make_runs(caches=tuple(CACHES)), make_references(), None


def draw(name: str, folder: Path, *inputs: Any) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{name}.{end}" for end in ("svg", "png", "csv")]
    draw_figure(name, Inputs(*inputs), *paths)
    return paths


def points(axes: Axes) -> set[tuple[float, ...]]:
    """Return the places of the marks and corners of the lines on axes, rounded."""
    found = set()
    for line in axes.get_lines():
        pairs = np.asarray(line.get_xydata(), dtype=float)
        found |= {tuple(np.round(pair, 9).tolist()) for pair in pairs}
    return found


def rows_as_points(rows: pd.DataFrame) -> set[tuple[float, ...]]:
    pairs = rows[["x", "y"]].dropna().to_numpy(float)
    return {tuple(np.round(pair, 9).tolist()) for pair in pairs}


def panels(name: str, table: pd.DataFrame, canvas: Canvas) -> list[tuple[Axes, pd.DataFrame]]:
    """Return the axes of each panel with the rows of the table that belong there."""
    figure = find_figure(name)
    rows, columns = (
        list(dict.fromkeys(table[facet])) if facet else [None] for facet in figure.facets
    )
    places = [(row, column) for row in rows for column in columns]
    out = []
    for axes, values in zip(canvas.axes, places, strict=True):
        mine = table
        for facet, value in zip(figure.facets, values, strict=True):
            mine = mine[mine[facet] == value] if facet else mine
        out.append((axes, mine))
    return out


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "flops_split"])
def test_every_number_is_drawn(name: str) -> None:
    """Marks of every kind stand where the table says, in the panel that it says."""
    table, canvas = table_of(name, *full(name)), canvas_of(name, *full(name))
    figure = find_figure(name)
    marks = [layer for layer in figure.layers if layer.draw in ("line", "points", "steps")]
    kinds = {layer.kind for layer in marks}
    for axes, mine in panels(name, table, canvas):
        places = {label: place for place, label in enumerate(dict.fromkeys(mine["label"]))}
        if figure.axis(mine[figure.facets[0] or "kind"].iloc[0]).scale == "names":
            mine = mine.assign(y=mine["label"].map(places))
        wanted = rows_as_points(mine[mine["kind"].isin(kinds)])
        assert wanted
        assert wanted <= points(axes)


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_half_a_column_wide_and_hold_their_texts(name: str) -> None:
    canvas = canvas_of(name, *full(name))
    assert canvas.get_size_inches()[0] == WIDTH
    assert outside(canvas) == []
    renderer: Any = canvas.canvas.get_renderer()
    for legend in canvas.legends:
        box = legend.get_window_extent(renderer)
        assert not any(box.overlaps(axes.get_window_extent(renderer)) for axes in canvas.axes)
    for axes in canvas.axes:
        assert min(axes.get_window_extent(renderer).size) > 0.1 * canvas.dpi


@pytest.mark.parametrize("name", FIGURES)
def test_tick_labels_do_not_overlap(name: str) -> None:
    canvas = canvas_of(name, *full(name))
    renderer: Any = canvas.canvas.get_renderer()
    for axes in canvas.axes:
        for axis, ends in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            low, high = sorted(ends)
            ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            boxes = [tick.label1.get_window_extent(renderer) for tick in ticks
                     if tick.label1.get_visible() and tick.label1.get_text()]  # fmt: skip
            for one, other in pairwise(boxes):
                assert not one.overlaps(other), [tick.label1.get_text() for tick in ticks]


@pytest.mark.parametrize("name", FIGURES)
def test_the_same_table_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    digests = []
    for folder in ("one", "two"):
        paths = draw(name, tmp_path / folder, *full(name))
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in paths])
    assert digests[0] == digests[1]


@pytest.mark.parametrize("name", ["perplexity", "judged"])
def test_a_figure_is_written_in_three_forms(name: str, tmp_path: Path) -> None:
    svg, png, csv = draw(name, tmp_path, *full(name))
    assert svg.read_text().rstrip().endswith("</svg>")
    assert png.read_bytes().startswith(b"\x89PNG")
    figure = find_figure(name)
    assert csv.read_text() == table_of(name, *full(name))[list(figure.columns)].to_csv(index=False)


def test_a_table_of_four_columns_is_enough_for_perplexity() -> None:
    runs = make_runs()[["student", "method", "samples", "loss"]]
    assert canvas_of("perplexity", runs).axes
    assert canvas_of("perplexity", runs[runs["samples"] == 64]).axes


def test_nothing_is_written_without_the_column(tmp_path: Path) -> None:
    runs = make_runs()[["student", "method", "samples", "loss"]]
    with pytest.raises(UserError, match="total_flops"):
        draw("flops", tmp_path, runs)
    assert list(tmp_path.iterdir()) == []


def losses_alone() -> pd.DataFrame:
    """Runs of which only the loss is known: every other number is null."""
    runs = make_runs()
    numbers = runs.columns.difference([*TEXTS, "samples", "draw", "seed", "loss"])
    return runs.assign(**dict.fromkeys(numbers))


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_of_nothing_says_so(name: str) -> None:
    runs = losses_alone()
    canvas = canvas_of(name, runs, None, {"laws": []})
    if table_of(name, runs, None, {"laws": []}).empty:
        assert texts_of(canvas) == [find_figure(name).empty]
        assert not canvas.axes
    assert outside(canvas) == []


def test_of_losses_alone_few_figures_can_be_drawn() -> None:
    full = [name for name in FIGURES if not table_of(name, losses_alone()).empty]
    assert "perplexity" in full
    assert len(full) < 4


def test_student_and_method_are_distinguished() -> None:
    runs = make_runs(caches=tuple(CACHES))
    figure = find_figure("perplexity")
    table, students = table_of("perplexity", runs), list(dict.fromkeys(runs["student"]))
    looks = Looks(figure, table, students)
    lines = lines_of(prepare_runs(runs))
    method = {x.label: x.label.removeprefix(f"{x.student} · ") for x in lines}
    look = {x.label: looks.look(x.student, method[x.label]) for x in lines}
    assert len({(x.colour, x.marker) for x in look.values()}) == len(lines)
    for line in lines:
        same = [look[x.label] for x in lines if x.student == line.student]
        assert {x.colour for x in same} == {look[line.label].colour}
        twins = [look[x.label] for x in lines if method[x.label] == method[line.label]]
        assert {(x.marker, x.dash) for x in twins} == {
            (look[line.label].marker, look[line.label].dash)
        }


def test_a_student_has_one_colour_in_every_figure() -> None:
    """Also where a figure lacks some students."""
    runs = make_study()
    only = runs[runs["student"] != "w64"].assign(student=lambda x: x["student"])
    for name in ("law_curves", "perplexity", "pareto"):
        students = list(dict.fromkeys(runs["student"]))
        table = table_of(name, only, study_references(), study_laws())
        looks = Looks(find_figure(name), table, students)
        colours = [looks.look(student, None).colour for student in students]
        assert colours == [to_hex(colour) for colour in OKABE_ITO[: len(students)]]


def test_more_students_than_colours_still_differ() -> None:
    runs = pd.concat([make_runs(seed=k).assign(student=f"student-{k}") for k in range(12)])
    table = table_of("perplexity", runs)
    looks = Looks(find_figure("perplexity"), table, list(dict.fromkeys(runs["student"])))
    assert len({looks.look(f"student-{k}", "sft").colour for k in range(12)}) == 12


@pytest.mark.parametrize("name", ["perplexity", "flops", "pareto", "cache_cost"])
def test_long_names_and_many_caches_stay_inside(name: str) -> None:
    runs = make_runs(caches=tuple(CACHES))
    runs["method"] = runs["method"].replace("kd", "forward-kl-at-temperature-2-and-cross-entropy")
    runs["cache"] = runs["cache"].replace("top64", "likeliest-64-with-the-rest-in-one-bucket")
    runs["student"] = runs["student"].replace("layers-2", "smollm2-135m-instruct-cut-to-2-layers")
    runs.loc[runs["samples"] == 64, "kl_teacher"] = 0.0
    assert outside(canvas_of(name, runs, make_references())) == []


@pytest.mark.parametrize("name", ["law_curves", "exponents", "flops_split", "pareto"])
def test_long_names_in_laws_stay_inside(name: str) -> None:
    runs = make_study()
    long = {"w64": "smollm2-135m-instruct-with-64-dimensions", "w128": "a-student" * 5}
    laws = []
    for law in study_laws()["laws"]:
        student = law["selected"]["student"]
        laws.append({**law, "selected": {**law["selected"], "student": long.get(student, student)}})
    canvas = canvas_of(name, runs.replace({"student": long}), study_references(), {"laws": laws})
    assert canvas.axes
    assert outside(canvas) == []


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


def test_every_teacher_has_its_line_and_its_name() -> None:
    references = make_references()
    references["teachers"]["other"] = {**references["teachers"]["smol"], "perplexity": 3.3}
    runs = pd.concat([make_runs(), make_runs().assign(teacher="other")])
    canvas = canvas_of("perplexity", runs, references)
    (axes,) = canvas.axes
    across = {x.get_ydata()[0]: x.get_linestyle() for x in axes.get_lines()
              if list(x.get_xdata()) == [0, 1] and len(set(x.get_ydata())) == 1}  # fmt: skip
    assert set(across) == {facts["perplexity"] for facts in references["teachers"].values()}
    assert {"teacher smol", "teacher other"} <= set(texts_of(canvas))
    styles = {line.get_label(): line._dash_pattern for line in canvas.legends[0].get_lines()}
    assert styles["teacher smol"] != styles["teacher other"]


def _starts(canvas: Canvas) -> tuple[list[Any], str]:
    (axes,) = canvas.axes
    return [x for x in axes.get_lines() if x.get_markerfacecolor() == "white"], axes.get_title(
        "left"
    )


def test_students_before_training_are_at_0_or_named() -> None:
    runs = make_runs()
    far, note = _starts(canvas_of("perplexity", runs, make_references()))
    assert {line.get_marker() for line in far} == {"^"}
    assert "layers-2: 12,900" in note
    near = runs.copy()
    near.loc[near["samples"] == 0, "perplexity"] = 8.0
    marks, note = _starts(canvas_of("perplexity", near, make_references()))
    assert note == ""
    assert {(line.get_marker(), float(line.get_xdata()[0]), float(line.get_ydata()[0]))
            for line in marks} == {("o", 0.0, 8.0)}  # fmt: skip


def test_many_lines_and_hostile_values_are_drawn() -> None:
    runs = pd.concat(
        [make_runs(seed=k).assign(student=f"a-rather-long-name-{k}") for k in range(8)]
    )
    runs.loc[runs["samples"] == 64, "kl_teacher"] = 0.0
    for name in ("kl_gap", "pareto", "size_curves"):
        assert canvas_of(name, runs, make_references()).legends


def test_dollar_signs_are_no_mathematics(tmp_path: Path) -> None:
    draw("perplexity", tmp_path, make_runs().replace({"student": {"layers-2": r"$\frac{$"}}))


def test_bars_and_bands_are_the_intervals_of_the_table() -> None:
    table, canvas = (
        table_of("perplexity", *full("perplexity")),
        canvas_of("perplexity", *full("perplexity")),
    )
    (axes,) = canvas.axes
    means = table[(table["kind"] == "mean") & table["low"].notna()]
    wanted = {(round(float(r.x), 9), round(r.low, 9), round(r.high, 9)) for r in means.itertuples()}
    found = {
        (round(float(x0), 9), round(float(y0), 9), round(float(y1), 9))
        for bars in axes.collections
        if isinstance(bars, LineCollection)
        for (x0, y0), (_, y1) in bars.get_segments()
    }
    assert found == wanted
    table, canvas = (
        table_of("law_curves", *full("law_curves")),
        canvas_of("law_curves", *full("law_curves")),
    )
    curves = table[(table["row"] == "sft") & (table["column"] == "loss")]
    curves = curves[curves["kind"] == "curve"]
    corners = np.concatenate(
        [path.vertices for band in canvas.axes[0].collections for path in band.get_paths()]
    )
    for column in ("low", "high", "run_low", "run_high"):
        for x, y in zip(curves["x"], curves[column], strict=True):
            assert np.isclose(corners, (x, y)).all(axis=1).any()


def test_exponents_without_a_bound_have_arrows() -> None:
    document = study_laws()
    laws = [dict(law) for law in document["laws"]]
    for law in laws:
        law["coefficients"] = {
            name: {**one, "low": None, "high": None, "identifiable": False}
            for name, one in law["coefficients"].items()
        }

    def arrows(known: Any) -> int:
        canvas = canvas_of("exponents", make_study(), study_references(), {"laws": known})
        lines = [line for axes in canvas.axes for line in axes.get_lines()]
        return sum(len(x.get_xdata()) for x in lines if x.get_marker() in "<>")

    rows = len(table_of("exponents", make_study(), study_references(), {"laws": laws}))
    assert arrows(laws) == 2 * rows
    assert arrows(document["laws"]) < rows


def test_shares_of_flops_are_the_widths_of_the_bars() -> None:
    table, canvas = (
        table_of("flops_split", *full("flops_split")),
        canvas_of("flops_split", *full("flops_split")),
    )
    for axes, column in zip(canvas.axes, dict.fromkeys(table["column"]), strict=True):
        mine = table[(table["column"] == column) & (table["y"] > 0)]
        wanted = sorted((round(r.low, 6), round(r.x, 6)) for r in mine.itertuples())
        bars: list[Any] = list(axes.patches)
        assert sorted((round(b.get_x(), 6), round(b.get_width(), 6)) for b in bars) == wanted
    names = [text.get_text() for text in canvas.axes[0].get_yticklabels()]
    assert names == list(dict.fromkeys(table["label"]))


def test_caches_equal_the_reference_within_grey_bands() -> None:
    canvas = canvas_of("cache_cost", *full("cache_cost"))
    for axes, bound in zip(canvas.axes, (0.5, 2.0), strict=True):
        box = axes.patches[0].get_path().get_extents(axes.patches[0].get_patch_transform())
        assert (box.y0, box.y1) == (-bound, bound)
        hollow = [x for x in axes.get_lines() if x.get_markerfacecolor() == "white"]
        assert all(set(line.get_ydata()) == {0.0} for line in hollow)
        assert len(hollow) == 2


def test_marks_that_stand_apart_keep_their_numbers() -> None:
    canvas = canvas_of("curation_effect", *full("curation_effect"))
    axes = canvas.axes[0]
    dedup, noisy = (
        next(x for x in axes.get_lines() if x.get_color() == colour and len(x.get_xdata()) > 2)
        for colour in (OKABE_ITO[0].lower(), OKABE_ITO[1].lower())
    )
    shifts = [line.get_transform() - axes.transData for line in (dedup, noisy)]
    at = [shift.transform((1000.0, 0.01)) for shift in shifts]
    assert at[0][0] < 1000 < at[1][0]
    assert at[0][1] == pytest.approx(at[1][1])


def test_a_panel_without_a_law_says_so() -> None:
    document = study_laws()
    method = document["laws"][0]["selected"]["method"]
    laws = [
        law for law in document["laws"]
        if law["target"] != "loss" or law["selected"]["method"] != method
    ]  # fmt: skip
    for known, missing in ((document["laws"], 0), (laws, 1)):
        canvas = canvas_of("law_curves", make_study(), study_references(), {"laws": known})
        said = [text.get_text() for axes in canvas.axes for text in axes.texts]
        assert said.count("no law is determined") == missing


def test_a_masked_models_perplexity_is_called_so() -> None:
    for task, label in (("masked-lm", "masked perplexity"), ("instruction", "perplexity")):
        canvas = canvas_of("perplexity", make_runs().assign(task=task))
        assert canvas.axes[0].get_ylabel() == label


def test_names_are_shortened_in_their_middle() -> None:
    assert shorten("short", 26) == "short"
    assert shorten("a" * 30 + "b" * 30, 26) == "a" * 12 + "…" + "b" * 13
    assert len(shorten(" · ".join(["x" * 60] * 3), 52)) <= 52


def test_thousands_of_runs_are_an_image_within_the_picture(tmp_path: Path) -> None:
    runs = make_runs()
    many = pd.concat([runs.assign(seed=seed) for seed in range(150)], ignore_index=True)
    few, all_of_them = (
        draw("perplexity", tmp_path / name, table)[0].read_text()
        for name, table in (("few", runs), ("many", many))
    )
    assert "<image" not in few
    assert 1 <= all_of_them.count("<image") <= len(lines_of(prepare_runs(many)))
    assert len(all_of_them) < 4 * len(few)
