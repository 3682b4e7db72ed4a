import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from distill.figures import FIGURES, draw_figure, drawable, figure_table, read_caption
from distill.files import UserError
from synthetic_runs import make_references, make_runs

CAPTIONS = Path(__file__).parent.parent / "report"


def draw(name: str, folder: Path, runs: pd.DataFrame, references: dict | None) -> list[Path]:
    paths = [folder / f"{name}.{end}" for end in ("svg", "png", "csv")]
    draw_figure(name, runs, references, *paths)
    return paths


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_drawn_with_and_without_references(name: str, tmp_path: Path) -> None:
    for folder, references in (("with", make_references()), ("without", None)):
        svg, png, csv = draw(name, tmp_path / folder, make_runs(), references)
        assert svg.read_text().rstrip().endswith("</svg>")
        assert png.read_bytes().startswith(b"\x89PNG")
        assert len(pd.read_csv(csv)) > 0


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    digests = []
    for folder in ("one", "two"):
        paths = draw("perplexity", tmp_path / folder, make_runs(), make_references())
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in paths])
    assert digests[0] == digests[1]


def test_csv_is_the_aggregated_table(tmp_path: Path) -> None:
    runs = make_runs()
    *_, path = draw("perplexity", tmp_path, runs, make_references())
    drawn = pd.read_csv(path)
    means = drawn[drawn["kind"] == "mean"].set_index(["label", "samples"])
    trained = runs[runs["samples"] > 0]
    wanted = trained.assign(label=trained["student"] + " · " + trained["method"])
    cells = wanted.groupby(["label", "samples"])["perplexity"].agg(["mean", "std", "count"])
    means = means.loc[cells.index]
    np.testing.assert_allclose(means["y"], cells["mean"])
    np.testing.assert_allclose(means["high"], cells["mean"] + cells["std"])
    np.testing.assert_allclose(means["low"], cells["mean"] - cells["std"])
    assert (means["runs"] == cells["count"]).all()
    assert means["low"].isna().equals(cells["count"] == 1)
    singles = drawn[drawn["kind"] == "run"]
    repeated = wanted[wanted["samples"] <= 256]
    np.testing.assert_allclose(sorted(singles["y"]), sorted(repeated["perplexity"]))
    teacher = drawn.loc[drawn["kind"] == "teacher", "y"].item()
    assert teacher == make_references()["teachers"]["smol"]["perplexity"]
    before = drawn[drawn["kind"] == "before"]
    assert set(before["y"]) == set(runs.loc[runs["samples"] == 0, "perplexity"])


def test_the_floors_are_those_of_their_sets() -> None:
    drawn = figure_table("pass_rate", make_runs(), make_references())
    floors = drawn[drawn["kind"] == "floor"].set_index("panel")["y"]
    assert floors.to_dict() == {"pass_rate": 0.08, "pass_rate_large": 0.07}


def test_a_table_of_four_columns_is_enough_for_perplexity(tmp_path: Path) -> None:
    runs = make_runs()[["student", "method", "samples", "loss"]]
    draw("perplexity", tmp_path, runs, None)
    draw("perplexity", tmp_path, runs[runs["samples"] == 64], None)
    assert [name for name in FIGURES if drawable(name, runs)] == ["perplexity"]


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("kl_gap", "kl_teacher"),
        ("pass_rate", "pass_rate"),
        ("combined", "combined_normalised"),
        ("training_time", "train_seconds"),
        ("quality_speed", "tokens_per_second"),
        ("quality_size", "size_mb"),
    ],
)
def test_a_missing_column_is_named(name: str, column: str, tmp_path: Path) -> None:
    runs = make_runs()[["student", "method", "samples", "loss"]]
    with pytest.raises(UserError, match=column):
        draw(name, tmp_path, runs, None)
    assert list(tmp_path.iterdir()) == []


def test_a_metric_that_does_not_apply_says_so(tmp_path: Path) -> None:
    runs = make_runs().assign(kl_teacher=None)
    *_, csv = draw("kl_gap", tmp_path, runs, make_references())
    assert pd.read_csv(csv).empty
    assert not drawable("kl_gap", runs)


def test_many_lines_and_hostile_values_are_drawn(tmp_path: Path) -> None:
    runs = pd.concat(
        [make_runs(seed=k).assign(student=f"a-rather-long-name-{k}") for k in range(8)]
    )
    runs.loc[runs["samples"] == 64, "kl_teacher"] = 0.0
    for name in ("kl_gap", "pass_rate", "quality_size"):
        draw(name, tmp_path, runs, make_references())


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_a_caption(name: str) -> None:
    assert len(read_caption(CAPTIONS, name)) > 80


def test_a_missing_caption_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"kl_gap\.rst"):
        read_caption(tmp_path, "kl_gap")
