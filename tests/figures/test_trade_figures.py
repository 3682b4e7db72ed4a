import numpy as np
import pandas as pd
import pytest

from distill.figures.pareto import front
from drawing import table_of
from figure_study import SAMPLES, STUDENTS, make_references, make_study


def table(name: str, runs: pd.DataFrame) -> pd.DataFrame:
    return table_of(name, runs, make_references())


def test_the_front_is_what_no_point_beats() -> None:
    rng = np.random.default_rng(2)
    points = [(float(x), float(y)) for x, y in rng.integers(0, 12, (60, 2))]
    wanted = sorted(
        {
            (x, y)
            for x, y in points
            if not any((a <= x and b <= y) and (a, b) != (x, y) for a, b in points)
        }
    )
    assert front(points) == wanted


def test_pareto_has_a_panel_per_property() -> None:
    without = make_study().drop(columns=["total_kwh", "total_kwh_amortised"])
    found = table("pareto", without)
    assert list(dict.fromkeys(found["column"])) == [
        "size_mb", "flops_per_token", "ms_per_token", "peak_memory_mb",
    ]  # fmt: skip
    means = found[(found["kind"] == "mean") & (found["column"] == "ms_per_token")]
    assert len(means) == len(STUDENTS) * 2 * len(SAMPLES)
    edge = found[(found["kind"] == "front") & (found["column"] == "ms_per_token")]
    assert edge["y"].is_monotonic_decreasing
    assert set(zip(edge["x"], edge["y"], strict=True)) <= set(
        zip(means["x"], means["y"], strict=True)
    )
    star = found[(found["kind"] == "teacher") & (found["column"] == "ms_per_token")]
    assert star["x"].tolist() == [1000 / 41.0]


@pytest.mark.slow
def test_pareto_compares_teachers_on_the_reference_text() -> None:
    two = pd.concat([make_study(), make_study().assign(teacher="other")])
    assert set(table("pareto", two)["row"]) == {"reference_loss"}
    assert set(table("pareto", make_study())["row"]) == {"loss"}


@pytest.mark.slow
def test_pareto_compares_no_teachers_on_their_own_texts() -> None:
    missing = {"reference_loss": None, "reference_bits_per_byte": None}
    one = make_study().assign(task="instruction", **missing)
    two = pd.concat([one, one.assign(teacher="other")])
    assert not table("pareto", one).empty
    assert table("pareto", two).empty
    assert not table("pareto", two.assign(task="causal-lm")).empty  # the corpus is one text


@pytest.mark.slow
@pytest.mark.parametrize(("share", "kind"), [(0.1, "estimated"), (0.0, "measured")])
def test_energy_has_a_panel_per_way_to_count_it(share: float, kind: str) -> None:
    runs = make_study().assign(kwh_estimated=share)
    runs["total_kwh_amortised"] = 1e-6 * runs["samples"] * runs["params"]
    runs["total_kwh"] = 2 * runs["total_kwh_amortised"]
    found = table("pareto", runs)
    alone, shared = f"{kind} kWh, run alone", f"{kind} kWh, work shared"
    assert list(dict.fromkeys(found["column"]))[-2:] == [alone, shared]
    means = found[found["kind"] == "mean"].set_index("column")
    np.testing.assert_allclose(means.loc[alone, "x"], 2 * means.loc[shared, "x"].to_numpy())
    edge = found[(found["kind"] == "front") & (found["column"] == shared)]
    points = list(zip(means.loc[shared, "x"], means.loc[shared, "y"], strict=True))
    assert list(zip(edge["x"], edge["y"], strict=True)) == front(points)
    assert len(edge) > 2


def test_compression_is_teacher_over_student() -> None:
    runs = make_study()
    found = table("distillation_gap", runs)
    one = found[(found["column"] == "params") & (found["label"] == "sft")]
    one = one[one["mark"] == f"{180 * 128:.0f}"].sort_values("x")
    cells = runs[(runs["method"] == "sft") & (runs["samples"] == 128)].groupby("params")
    gaps = cells["kl_teacher"].mean().iloc[::-1]
    np.testing.assert_allclose(one["x"], 134_515_008 / gaps.index.to_numpy())
    np.testing.assert_allclose(one["y"], gaps)
    assert one["runs"].tolist() == [2] * len(STUDENTS)


def test_shares_of_flops_add_up() -> None:
    runs = make_study()
    found = table("flops_split", runs)
    for _, bar in found.groupby(["column", "label"]):
        assert bar["low"].iloc[0] == 0
        assert bar["high"].iloc[-1] == pytest.approx(100)
        np.testing.assert_allclose(bar["low"].to_numpy()[1:], bar["high"].to_numpy()[:-1])
    run = runs[(runs["student"] == "w64") & (runs["method"] == "kd") & (runs["samples"] == 4096)]
    total = run[["teacher_flops", "target_flops", "train_flops"]].to_numpy().sum()
    bar = found[(found["label"] == "w64 · kd") & (found["column"] == "run alone")]
    wanted = 100 * run["train_flops"].item() / total
    assert bar.loc[bar["kind"] == "training", "x"].item() == pytest.approx(wanted)


def test_of_many_lines_the_ends_are_shown() -> None:
    runs = pd.concat([make_study().assign(method=f"m{k}") for k in range(5)])
    found = table("flops_split", runs[runs["samples"] > 0])
    assert {label.split(" · ")[0] for label in found["label"]} == {"w64", "w384"}


@pytest.mark.slow
def test_curated_runs_are_compared_with_their_twins() -> None:
    runs = make_study(curations=True)
    found = table("curation_effect", runs)
    trained = runs[runs["samples"] == 512]
    keys = ["student", "method", "samples", "draw"]
    sides = trained.pivot(index=keys, columns="curation", values="loss")
    wanted = (sides["noisy"] - sides["raw"]).xs("sft", level="method")
    row = found[(found["label"] == "noisy") & (found["column"] == "loss")]
    row = row[row["row"] == "sft"]
    mean = row[(row["kind"] == "difference") & np.isclose(row["x"], 180 * 512)]
    assert mean["y"].item() == pytest.approx(wanted.mean())
    assert mean["runs"].item() == len(wanted) == 2 * len(STUDENTS)
    ones = row[(row["kind"] == "student") & np.isclose(row["x"], 180 * 512)]
    assert sorted(ones["y"]) == pytest.approx(sorted(wanted.groupby("student").mean()))
    # The interval is over draws, students of a draw averaged first.
    draws = [
        (cell["noisy"] - cell["raw"]).xs("sft", level="method").groupby("draw").mean()
        for n in (128, 512)
        if (cell := runs[runs["samples"] == n].pivot(index=keys, columns="curation", values="loss"))
        is not None
    ]
    sd = np.sqrt(sum(draw.var() for draw in draws) / 2)
    half = 2.9199856 * sd / np.sqrt(2)
    assert mean["high"].item() - mean["y"].item() == pytest.approx(half)


@pytest.mark.slow
def test_a_curated_run_without_a_twin_is_left_out() -> None:
    runs = make_study(curations=True)
    alone = runs[(runs["curation"] != "raw") | (runs["samples"] != 512)]
    found = table("curation_effect", alone)
    assert not np.isclose(found["x"], 180 * 512).any()
    assert table("curation_effect", runs[runs["curation"] != "raw"]).empty
    one_draw = table("curation_effect", runs[runs["draw"] == 0])
    assert one_draw["low"].isna().all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pareto", "distillation_gap", "flops_split", "curation_effect"])
def test_four_columns_are_not_enough(name: str) -> None:
    assert table(name, make_study()[["student", "method", "samples", "loss"]]).empty
