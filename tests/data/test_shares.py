"""Shares of a data set in place of counts."""

import copy
from pathlib import Path
from typing import Any

import pytest

import tiny
from distill.config.checks.study import parse_study
from distill.config.study import raw_part_size, raw_rows_needed
from distill.core.errors import UserError
from distill.plan.study import Plan


def study(rows: int = 1000, **prompts: Any) -> dict[str, Any]:
    config = tiny.study()
    shares = {"pool": "70%", "validation": "15%", "test": "15%", "surplus": 1.0}
    config["prompts"] = {"source": "faq", "template": "{prompt}:", **shares, **prompts}
    config["sources"]["faq"]["rows"] = rows
    config["runs"][0] |= {"samples": ["100%"], "draws": [0]}
    return config


def counts(config: dict[str, Any]) -> tuple[int, int, int, int]:
    prompts = parse_study(config).rows
    return prompts.pool, prompts.validation, prompts.test, prompts.part_size


@pytest.mark.parametrize(
    ("rows", "settings", "wanted"),
    [
        (1000, {}, (700, 150, 150, 50)),
        (1019, {}, (700, 150, 150, 50)),  # 19 rows are no further row of each part
        (1000, {"surplus": 1.1}, (630, 135, 135, 45)),
        (20, {}, (14, 3, 3, 1)),
        (1000, {"part_size": 100}, (600, 200, 200, 100)),  # 1.5 parts are 2
        (1000, {"part_size": 10}, (700, 150, 150, 10)),
        (1000, {"part_size": 500}, (700, 150, 150, 500)),  # two parts are no three splits
        (1000, {"pool": "50%"}, (500, 150, 150, 50)),
        (1000, {"pool": "85 %", "validation": 0}, (850, 0, 150, 50)),
        (1000, {"pool": "70.0%", "test": "15 %"}, (700, 150, 150, 50)),
    ],
)
def test_shares_become_counts_in_whole_parts(
    rows: int, settings: dict[str, Any], wanted: tuple[int, ...]
) -> None:
    config = study(rows, **settings)
    before = copy.deepcopy(config)
    assert counts(config) == wanted
    assert config == before


@pytest.mark.slow
@pytest.mark.parametrize("rows", range(40, 400, 7))
@pytest.mark.parametrize("surplus", [1.0, 1.05, 1.2, 1.9])
def test_counts_fit_in_the_data_set(rows: int, surplus: float) -> None:
    prompts = parse_study(study(rows, surplus=surplus)).rows
    needed = raw_rows_needed(prompts)
    assert rows - 40 * surplus < needed <= rows  # at most two of each part are left over
    parts = needed // raw_part_size(prompts)
    assert parts == 20
    counts = (prompts.pool, prompts.validation, prompts.test)
    assert [count / prompts.part_size for count in counts] == [14, 3, 3]


def test_sizes_may_be_shares_of_the_pool() -> None:
    config = study()
    config["teachers"]["own"] = {
        "trained": {"student": "small", "teacher": "big", "method": "sft", "samples": "100%"}
    }
    search = {"student": "small", "teacher": "big", "method": "sft", "samples": "100%"}
    bounds = {"train.learning_rate": {"low": 1e-5, "high": 1e-3}}
    config["searches"] = {"rate": search | {"space": bounds}}
    config["runs"][0]["samples"] = [64, "100%"]
    parsed = parse_study(config)
    assert parsed.runs[0].samples == [64, 700]
    assert parsed.searches["rate"].samples == 700
    trained = parsed.teachers["own"].trained
    assert trained is not None
    assert trained.samples == 700
    counted = tiny.study()
    counted["runs"][0]["samples"] = ["100%"]
    assert parse_study(counted).runs[0].samples == [64]


def test_a_study_with_shares_is_that_with_the_counts() -> None:
    counted = study(pool=700, validation=150, test=150, part_size=50)
    assert Plan(parse_study(counted)).runs == Plan(parse_study(study())).runs
    specs = [
        list(Plan(parse_study(config)).outputs.stored_specs()) for config in (counted, study())
    ]
    assert specs[0] == specs[1]


def test_a_local_files_short_prompts_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    short, long = "Was ist das?,x,Ein Haus.\n", "Was ist das?,ein Wort mehr,Ein Haus.\n"
    file.write_text("Frage,Notiz,Antwort\n" + 40 * short + 500 * long)
    config = study(max_tokens=5)
    config["sources"]["faq"] = {
        "path": str(file),
        "fields": {"prompt": "Frage", "context": "Notiz", "response": "Antwort"},
    }
    assert counts(config) == (28, 6, 6, 2)
    config["prompts"]["max_tokens"] = 6
    assert counts(config) == (378, 81, 81, 27)
    file.unlink()
    with pytest.raises(UserError, match=r"sources\.faq\.path: the file .*own\.csv does not exist"):
        parse_study(config)


@pytest.mark.parametrize(
    ("prompts", "sentence"),
    [
        ({"test": 100}, "pool: 70% is a share .* but test: 100 is a count; give all as shares"),
        ({"pool": "80%"}, r"shares \(.*\) must include test and pool and sum to at most 100%"),
        ({"validation": "0%"}, "validation: 0%, pool: 70%; a share must be above 0%"),
        ({"pool": 1}, "pool: 1 is a count"),
        (
            {"source": "magpie", "teacher": "big"},
            "with source magpie the teacher generates the prompts",
        ),
        ({"source": "nowhere"}, "there is no data set 'nowhere' under sources"),
        ({"source": "base"}, "there is no data set 'base' under sources"),
        ({"poool": 1}, "did you mean pool"),
        ({"test": 1.5}, r"prompts\.test: input should be a valid integer, got"),
    ],
)
def test_shares_that_cannot_be_are_told(prompts: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        parse_study(study(**prompts))


def test_a_data_set_that_only_a_job_can_read_states_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "faq.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr("distill.core.rows.reading.missing_packages", lambda files: ["pyarrow"])
    config = study()
    config["sources"]["faq"] = {
        "path": str(tmp_path / "faq.parquet"),
        "fields": {"prompt": "question", "response": "answer"},
    }
    with pytest.raises(UserError, match=r"sources\.faq\.rows is missing"):
        parse_study(config)


def test_a_fraction_is_told_how_a_share_is_written() -> None:
    with pytest.raises(
        UserError, match=r"prompts\.pool: 0\.7 is not a number of rows; .* write 70%"
    ):
        parse_study(study(pool=0.7))
