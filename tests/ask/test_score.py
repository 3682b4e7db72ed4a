"""The scores of a loss, asked of a finished study."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distill.ask.score import ask_scores
from distill.ask.study import Refusal, Study, make_study
from distill.cli.main import main
from distill.core.errors import UserError
from distill.core.files import write_json
from distill.laws.related_scores import relate_scores
from law_worlds import make_rows

ITEMS = 400


def rate(loss: Any) -> Any:
    return 0.05 + 0.9 / (1 + np.exp(3.0 * (np.asarray(loss) - 3.0)))


def tables(score: str | None = "pass_rate_large") -> tuple[pd.DataFrame, dict[str, Any]]:
    """A runs table and its laws.json, without a law."""
    rows = make_rows(draws=1, noise=0.002).drop(columns="reference")
    if score:
        rng = np.random.default_rng(4)
        rows[score] = rng.binomial(ITEMS, rate(rows["loss"])) / ITEMS
    references = {"items": {"large": ITEMS}, "floor": {"large": 0.05}}
    relations = relate_scores(rows, references, [], True)
    runs = rows.rename(columns={"tokens": "tokens_unique"}).assign(samples=100)
    runs["tokens_seen"] = runs["tokens_unique"]
    return runs, {"schema": 1, "laws": [], "refused": [], "relations": relations}


@pytest.fixture(scope="module")
def study() -> Study:
    return make_study(*tables())


def test_the_score_of_a_loss_is_that_of_the_relation(study: Study) -> None:
    found = ask_scores(study, study.groups, 3.0)
    (one,) = found["answers"]
    assert one["of"] == "pass_rate_large"
    assert one["value"] == pytest.approx(rate(3.0), abs=0.03)
    assert one["run_low"] < one["low"] < rate(3.0) < one["high"] < one["run_high"]
    assert one["inside"]
    assert one["items"] == ITEMS
    (few,) = ask_scores(study, study.groups, 3.0, items=20)["answers"]
    assert few["run_high"] - few["run_low"] > one["run_high"] - one["run_low"]
    assert few["value"] == one["value"]


def test_far_from_the_losses_measured_there_is_none(study: Study) -> None:
    low, high = ask_scores(study, study.groups, 3.0)["answers"][0]["range"]
    (one,) = ask_scores(study, study.groups, low - 0.1)["answers"]
    assert not one["inside"]
    far = ask_scores(study, study.groups, high + (high - low))
    assert far["answers"] == []
    assert [record["reason"] for record in far["refused"]] == ["too_far"]


def test_mistakes_and_studies_without_scores_are_one_sentence(study: Study) -> None:
    with pytest.raises(UserError, match="--loss must be a positive number"):
        ask_scores(study, study.groups, -1.0)
    with pytest.raises(UserError, match="--items must be at least 1"):
        ask_scores(study, study.groups, 3.0, items=0)
    bare = make_study(*tables(None))
    with pytest.raises(Refusal, match="no run of this study has a pass rate"):
        ask_scores(bare, bare.groups, 3.0)


def test_the_command_answers_in_words_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, document = tables()
    runs.to_parquet(tmp_path / "runs.parquet")
    write_json(tmp_path / "laws.json", document)
    assert main(["ask", str(tmp_path), "score", "--loss", "3", "--method", "kd"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("kd, pass rate (larger set) at a loss of 3")
    assert "for a new run on 400 items" in text
    assert "  " not in text.replace("\n  ", "\n")
    assert main(["ask", str(tmp_path), "score", "--perplexity", "20", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["loss"] == pytest.approx(np.log(20))
    assert main(["ask", str(tmp_path), "score", "--loss", "30"]) == 1
    assert "the loss is too far from those measured" in capsys.readouterr().err
