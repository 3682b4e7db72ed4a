"""Laws of a table without a workflow: in Python, and by `distill laws`."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distill.api import TableFit, fit_table
from distill.cli.main import main
from distill.core.errors import UserError
from distill.laws.choice import Settings
from law_simulations import TRUTH, chinchilla_rows
from miniature import ROOT

pytestmark = pytest.mark.slow  # fits many laws

QUICK = Settings(starts=8, replicates=19, shared=False)
COLUMNS: dict[str, Any] = {"params": "N", "tokens": "D", "loss": "val_loss"}


def table(groups: int = 1) -> pd.DataFrame:
    """Runs of Chinchilla's law under other names, in one or more groups of different noise."""
    rows = [row for place in range(groups)
            for row in chinchilla_rows(seed=place, group=f"g{place}")]  # fmt: skip
    frame = pd.DataFrame(rows)[["params", "tokens", "loss", "group"]]
    return frame.rename(columns=COLUMNS)


@pytest.fixture(scope="module")
def fit() -> TableFit:
    return fit_table(table(), settings=QUICK, **COLUMNS)


def truth(params: float, tokens: float) -> float:
    return TRUTH["E"] + TRUTH["A"] / params ** TRUTH["alpha"] + TRUTH["B"] / tokens ** TRUTH["beta"]


def test_a_frame_gives_the_law_that_made_it(fit: TableFit) -> None:
    sizes = np.array([2e6, 2e7])
    forecast = fit.predict(sizes, 8e6)
    assert forecast.value == pytest.approx([truth(n, 8e6) for n in sizes], rel=0.02)
    assert (forecast.run_low < forecast.low).all()
    assert (forecast.low < forecast.value).all()
    assert (forecast.high - forecast.low)[1] > (forecast.high - forecast.low)[0]
    (law,) = (one for one in fit.laws if one.name == "chinchilla")
    assert law.record["coefficients"]["alpha"]["value"] == pytest.approx(TRUTH["alpha"], rel=0.1)
    assert {one.name for one in fit.refused} >= {"chinchilla_constrained"}
    assert all(one.reason for one in fit.refused)


def test_a_file_gives_what_the_command_writes(
    fit: TableFit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, page = tmp_path / "my runs.csv", tmp_path / "report.html"
    table().drop(columns="group").to_csv(file, index=False)
    same = fit_table(file, **COLUMNS)
    typed = ["laws", str(file), "--params", "N", "--tokens", "D", "--loss", "val_loss"]
    kept = ["--report", str(page), "--keep", str(tmp_path / "kept")]
    assert main([*typed, *kept, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    for written, ours in zip(printed["laws"], same.document["laws"], strict=True):
        assert {**written, "fit_seconds": 0} == {**ours, "fit_seconds": 0}
    assert printed["refused"] == same.document["refused"]
    assert "data:image/svg+xml" in page.read_text(encoding="utf-8")
    words = ["loss", "--params", "2e6", "--tokens", "1e6", "--json"]
    assert main(["ask", str(tmp_path / "kept"), *words]) == 0
    (answer,) = json.loads(capsys.readouterr().out)["answers"]
    assert answer["loss"]["value"] == pytest.approx(same.predict(2e6, 1e6).value[0])


def test_several_groups_are_asked_by_name() -> None:
    fit = fit_table(table(2), settings=QUICK, group="group", **COLUMNS)
    with pytest.raises(UserError, match=r"several groups of runs: .*g0.*g1.*; name one by"):
        fit.predict(1e6, 1e6)
    values = [fit.predict(1e6, 1e6, group=name).value[0] for name in ("g0", "g1")]
    assert values[0] != values[1]
    assert values == pytest.approx([truth(1e6, 1e6)] * 2, rel=0.01)
    with pytest.raises(UserError, match="corpus is no name of runs"):
        fit.predict(1e6, 1e6, corpus="g0")


def test_mistakes_are_one_sentence(
    fit: TableFit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="the table has no column 'M'"):
        fit_table(table(), params="M", tokens="D", loss="val_loss")
    with pytest.raises(UserError, match="colour"):
        fit_table(table(), colour="group", **COLUMNS)
    with pytest.raises(UserError, match="positive and finite"):
        fit.predict(-1.0, 1e6)
    short = fit_table(table().head(2), settings=QUICK, **COLUMNS)
    with pytest.raises(UserError, match="no law over data is determined by these runs"):
        short.predict(1e6, 1e6)
    assert not short.laws
    assert short.refused
    assert main(["laws", str(tmp_path / "absent.csv")]) == 2
    assert "absent.csv does not exist" in capsys.readouterr().err


def test_the_example_of_the_guide_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs/guide/laws_in_python.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    names: dict[str, object] = {}
    exec(compile(code, "laws_in_python.md", "exec"), names)
    assert capsys.readouterr().out.startswith(("chinchilla ", "tied "))
    forecast = names["forecast"]
    expected = 1.7 + 410 / np.array([2e9, 4e9]) ** 0.34 + 1200 / 4e10**0.36
    assert getattr(forecast, "value", None) == pytest.approx(expected, rel=0.01)


def test_it_needs_neither_torch_nor_snakemake() -> None:
    code = (
        "import sys, distill.api\n"
        "print([name for name in ('torch', 'transformers', 'snakemake') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(ROOT / "scripts")},
    )  # fmt: skip
    assert done.stdout == "[]\n"


UNITS = {
    "params": ("millions", lambda runs: runs["N"] / 1e6),
    "tokens": ("log10", lambda runs: np.log10(runs["D"])),
    "loss": ("bits", lambda runs: runs["val_loss"] / np.log(2)),
}


@pytest.mark.parametrize("name", UNITS)
def test_units_are_those_of_a_study(fit: TableFit, name: str) -> None:
    unit, convert = UNITS[name]
    column = COLUMNS[name]
    written = table().assign(**{column: convert})
    same = fit_table(written, settings=QUICK, units={name: unit}, **COLUMNS)
    given, plain = (one.predict(2e6, 4e6).value[0] for one in (same, fit))
    assert given == pytest.approx(plain, rel=1e-3)
    ours = same.runs.rename(columns={"tokens_unique": "tokens"})[name]
    np.testing.assert_allclose(ours, table()[column], rtol=1e-4)


def test_wrong_units_are_one_sentence() -> None:
    with pytest.raises(UserError, match=r"units\.loss"):
        fit_table(table(), settings=QUICK, units={"loss": "miles"}, **COLUMNS)
    with pytest.raises(UserError, match=r"units\.flops: runs_table\.columns names no column"):
        fit_table(table(), settings=QUICK, units={"flops": "exaflops"}, **COLUMNS)
    small = table().assign(N=table()["N"] / 1e6)
    with pytest.raises(UserError, match=r"units: \{params: millions"):
        fit_table(small, settings=QUICK, **COLUMNS)


def test_scores_of_a_table_are_related() -> None:
    frame = table()
    rng = np.random.default_rng(0)
    middle = float(frame["val_loss"].median())
    share = 0.1 + 0.8 / (1 + np.exp(4 * (frame["val_loss"] - middle)))
    frame = frame.assign(right=rng.binomial(300, share) / 300, asked=300)
    named: dict[str, Any] = {"accuracy": "right", "items": "asked"}
    fitted = fit_table(frame, settings=QUICK, **named, **COLUMNS).document["relations"]["fitted"]
    (record,) = [one for one in fitted if one["by"] == "loss"]
    assert record["of"] == "accuracy"
    assert record["coefficients"]["x0"]["value"] == pytest.approx(middle, abs=0.15)
