"""Data sets that are too small for a whole slice of candidates per part."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

import tiny
from distill.config.checks.study import parse_study
from distill.contracts.costs import FREE
from distill.core.errors import UserError
from distill.core.parquet import read_rows
from distill.data.fetch import fetch_data
from distill.data.prompts import filter_part, slice_part
from distill.plan.prompts import PromptPool
from distill.plan.study import Plan
from distill.workflow.startup import check_row_counts

WORDS = ("river", "mill", "bread", "oven", "poem", "gull", "boat", "sky", "map", "letter")


def question(number: int) -> str:
    words = random.Random(number).sample(WORDS, 6)
    return f"{number * 7919} {' '.join(words)}?"


def study(folder: Path, rows: int, twice: int = 0, **prompts: Any) -> dict[str, Any]:
    """A config on a CSV of distinct rows, of which some are written twice."""
    file = folder / "own.csv"
    numbers = [*range(rows), *range(twice)]
    file.write_text("q,a\n" + "".join(f"{question(number)},Yes.\n" for number in numbers))
    config = tiny.study()
    config["sources"]["own"] = {"path": str(file), "fields": {"prompt": "q", "response": "a"}}
    config["prompts"] = {"source": "own", "template": "{prompt}", **prompts}
    config["runs"][0] |= {"samples": ["100%"], "draws": [0]}
    return config


def plan(*args: Any, **changes: Any) -> Plan:
    return Plan(parse_study(study(*args, **changes)))


def prompts_of(made: Plan, folder: Path) -> dict[str, list[str]]:
    """All prompts of each split, as the jobs choose them."""
    pool, kept = made.pool, dict[str, list[dict[str, Any]]]()
    assert isinstance(pool, PromptPool)
    source = made.study.sources["own"]
    fetch_data(source.model_dump(exclude_none=True), folder / "rows.parquet")
    train = range(-(-pool.settings.pool // pool.settings.part_size))
    for split, parts in (
        ("test", pool.parts("test")),
        ("validation", pool.parts("validation")),
        ("train", train),
    ):
        for part in parts:
            spec = pool.raw_spec(split, part)
            slice_part(folder / "rows.parquet", folder / "raw.parquet", spec, "own")
            earlier = [row for path in pool.earlier_parts(split, part) for row in kept[path]]
            raw = read_rows(folder / "raw.parquet")
            kept[pool.part(split, part)] = filter_part(
                raw, earlier, pool.filter_spec(split, part), FREE.columns()
            )
    found: dict[str, list[str]] = {}
    for path, some in kept.items():
        found.setdefault(Path(path).name.partition("-")[0], []).extend(r["prompt"] for r in some)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("part_size", [128, 100, 60, 32, 7])
@pytest.mark.parametrize(("pool", "test", "validation"), [(80, 40, 0), (70, 30, 20), (1, 1, 0)])
def test_120_rows_are_used_as_the_config_says(
    tmp_path: Path, part_size: int, pool: int, test: int, validation: int
) -> None:
    settings = {"pool": pool, "test": test, "validation": validation, "part_size": part_size}
    made = plan(tmp_path, 120, **settings)
    check_row_counts(made)
    found = prompts_of(made, tmp_path)
    counts = {split: len(found.get(split, [])) for split in ("train", "test", "validation")}
    assert counts["test"] == test
    assert counts["validation"] == validation
    assert counts["train"] >= pool
    everything = [prompt for some in found.values() for prompt in some]
    assert len(set(everything)) == len(everything)
    assert set(everything) <= {question(number) for number in range(120)}


@pytest.mark.slow
def test_rows_that_occur_twice_are_replaced_by_any_other(tmp_path: Path) -> None:
    made = plan(tmp_path, 100, twice=20, pool=70, test=30, part_size=16)
    found = prompts_of(made, tmp_path)
    everything = sorted(found["train"] + found["test"])
    assert everything == sorted(question(number) for number in range(100))


def test_a_large_enough_data_set_has_whole_slices(tmp_path: Path) -> None:
    made = plan(tmp_path, 120, pool=64, test=16, part_size=16)
    pool = made.pool
    assert isinstance(pool, PromptPool)
    assert not pool.scarce
    assert "scarce" not in pool.spec
    raw = pool.raw_spec("train", 1)
    assert (raw["slice"], raw["candidates"]) == (2, 20)
    small = plan(tmp_path, 99, pool=64, test=16, part_size=16)
    assert isinstance(small.pool, PromptPool)
    assert small.pool.scarce
    assert small.pool.key != pool.key


def test_a_larger_pool_keeps_the_first_parts(tmp_path: Path) -> None:
    some, more = (plan(tmp_path, 120, pool=pool, test=40, part_size=32).pool for pool in (70, 80))
    assert isinstance(some, PromptPool)
    assert isinstance(more, PromptPool)
    assert some.key == more.key
    same = [some.raw_spec("train", part) == more.raw_spec("train", part) for part in range(3)]
    assert same == [True, True, False]
    assert [(some.rows("train", 2)), more.rows("train", 2)] == [6, 16]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"pool": 100, "test": 40},
            r"100 training and 40 held-out prompts need 140 rows but .*own\.csv has 120; lower "
            r"prompts\.pool or test$",
        ),
        ({"pool": 90, "test": 30, "validation": 1}, "121 rows .*lower prompts.pool, test or valid"),
        (
            {"pool": 80, "test": 40, "max_tokens": 6},
            "120 prompts are needed, but only 0 of 120 rows of .* have at most 6 tokens .*; raise",
        ),
    ],
)
def test_too_few_rows_are_told(tmp_path: Path, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        check_row_counts(plan(tmp_path, 120, **settings))


def test_one_row_is_too_few_for_any_study(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"need 2 rows but .*own\.csv has 1; give more rows$"):
        check_row_counts(plan(tmp_path, 1, pool=1, test=1))


def test_stated_rows_are_known_without_a_file() -> None:
    config = tiny.study()
    config["prompts"] = {"source": "faq", "template": "{prompt}", "pool": 400, "test": 100}
    config["runs"][0] |= {"samples": [400], "draws": [0]}
    pool = Plan(parse_study(config)).pool
    assert isinstance(pool, PromptPool)
    assert pool.scarce
    config["prompts"]["test"] = 101
    with pytest.raises(UserError, match=r"need 501 rows but faq has 500; lower "):
        parse_study(config)


def test_chats_need_a_chat_template(tmp_path: Path) -> None:
    config = study(tmp_path, 120, pool=64, test=16)
    turns = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}]
    system = [{"role": "system", "content": "Be brief."}]
    for first, what in ((turns, "several turns"), (system, "a system text")):
        chats = [
            {"m": [*first, {"role": "user", "content": question(number)}]} for number in range(120)
        ]
        file = tmp_path / f"{len(what)}.jsonl"
        file.write_text("".join(json.dumps(chat) + "\n" for chat in chats))
        config["sources"]["own"] = {"path": str(file), "fields": {"prompt": "m"}}
        config["prompts"]["template"] = "alpaca"
        with pytest.raises(UserError, match=rf"120 rows of .* have {what}.*; set it to chat, or"):
            check_row_counts(Plan(parse_study(config)))
        config["prompts"]["template"] = "chat"
        check_row_counts(Plan(parse_study(config)))


def test_prompts_that_are_equal_are_counted_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"only 60 of the 120 prompts of .*own\.csv differ; lower"):
        check_row_counts(plan(tmp_path, 60, twice=60, pool=41, test=20))
    check_row_counts(plan(tmp_path, 60, twice=60, pool=40, test=20))


@pytest.mark.parametrize(("rows", "counts"), [(120, (70, 30)), (3, (1, 1)), (2, (1, 1))])
def test_shares_of_few_rows_are_counts_of_rows(
    tmp_path: Path, rows: int, counts: tuple[int, int]
) -> None:
    prompts = plan(tmp_path, rows, pool="70%", test="30%", part_size=128).pool.settings
    assert (prompts.pool, prompts.test) == counts
    with pytest.raises(UserError, match="1 rows of own are too few for"):
        plan(tmp_path, 1, pool="70%", test="30%")
