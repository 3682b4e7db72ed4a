import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from py3langid.langid import MODEL_FILE, LanguageIdentifier

import tiny
from distill.config.curation import FILTERS, LANGUAGES, Curation
from distill.contracts.schemas import DATA_SCHEMA, TEXT_SCHEMA
from distill.core.errors import UserError
from distill.core.files import read_json
from distill.core.keys import pool_order
from distill.core.parquet import read_metadata, read_rows, write_rows
from distill.data.cards import write_card
from distill.data.curation import choose, corrupted, curate, curate_files, loss_cuts
from distill.data.near_duplicates import jaccard, shingles
from distill.data.shards import build_shard

WORDS = ("river", "mill", "gull", "boat", "lamp", "oven", "bread", "poem", "sky", "rain")


def row(place: int, response: str = "", reason: str = "stop", tokens: int = 5) -> dict[str, Any]:
    return {
        "id": f"train-{place:07d}", "row": place, "prompt": f"prompt {place}", "context": None,
        "response": response, "reference": None, "prompt_ids": [1, 2],
        "response_ids": list(range(tokens)), "finish_reason": reason,
        "teacher_flops": 10.0**place if place < 9 else 1.0, "teacher_seconds": float(place),
        "teacher_kwh": 0.5 * place, "teacher_kwh_estimated": 0.0,
    }  # fmt: skip


def varied(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Answers of few words and lengths, so that near-duplicates and every reason occur."""
    draw = np.random.default_rng(seed)
    return [
        row(
            place,
            " ".join(draw.choice(WORDS, size=draw.integers(1, 4))),
            "stop" if draw.random() < 0.8 else "length",
            int(draw.integers(1, 12)),
        )
        for place in range(count)
    ]


def loss_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    draw = np.random.default_rng(7)
    return [
        {"id": each["id"], "tokens": 3, "loss": float(draw.gamma(2)), "flops": 100.0,
         "seconds": 0.5, "kwh": 0.25, "kwh_estimated": 0.25}
        for each in rows
    ]  # fmt: skip


def dumped(**entries: Any) -> dict[str, Any]:
    """A curation's settings as the plan hands them on."""
    made = Curation.model_validate({"surplus": 9, **entries})
    return made.model_dump(exclude={"surplus"}, exclude_none=True)


def reasons(rows: list[dict[str, Any]], **entries: Any) -> list[str | None]:
    return choose(rows, dumped(**entries), {}, {})


def test_length_counts_tokens_and_asks_for_an_end() -> None:
    rows = [row(0, tokens=2), row(1, tokens=3), row(2, tokens=6), row(3, tokens=7),
            row(4, reason="length")]  # fmt: skip
    assert reasons(rows, length={"min_tokens": 3, "max_tokens": 6}) == [
        "too short", None, None, "too long", None
    ]  # fmt: skip
    assert reasons(rows, length={"finished": True}) == [None] * 4 + ["unfinished"]
    assert reasons([row(0) | {"response_ids": None}], length={"finished": True}) == [None]


def test_language_keeps_the_languages_named_and_the_certain() -> None:
    rows = [
        row(0, "The river runs past the old mill and into the sea."),
        row(1, "Der Fluss fließt an der alten Mühle vorbei ins Meer."),
        row(2, "La rivière coule devant le vieux moulin vers la mer."),
        row(3, "12345"),
    ]
    other = "another language"
    assert reasons(rows, language={"keep": ["en"]}) == [None, other, other, None]
    assert reasons(rows, language={"keep": ["de", "fr"]}) == [other, None, None, other]
    sure = {"keep": ["en"], "min_probability": 0.9}
    assert reasons(rows, language=sure) == [None, other, other, "uncertain language"]


def test_the_languages_named_are_the_librarys() -> None:
    known = LanguageIdentifier.from_pickled_model(MODEL_FILE).nb_classes
    assert sorted(map(str, known)) == sorted(LANGUAGES)


def test_loss_is_cut_at_quantiles_of_the_first_part_alone() -> None:
    first = [4.0, 1.0, 2.0, 3.0, 5.0]
    both = {"min_quantile": 0.25, "max_quantile": 0.75}
    assert loss_cuts(first, both) == {"low": 2.0, "high": 4.0}
    rows = [row(place) for place in range(8)]
    given = dict(zip((each["id"] for each in rows), [*first, 0.1, 9.0, 2.5], strict=True))
    settings = dumped(teacher_loss=both)
    low, high = "low teacher loss", "high teacher loss"
    found = choose(rows, settings, given, loss_cuts(first, both))
    assert found == [None, low, None, None, high, low, high, None]
    # The quantiles 0 and 1 let pass what lies beyond the first part.
    upper = {"min_quantile": 0.0, "max_quantile": 0.5}
    assert loss_cuts(first, upper) == {"low": None, "high": 3.0}
    found = choose(rows, dumped(teacher_loss=upper), given, loss_cuts(first, upper))
    assert found[5] is None


def test_near_duplicates_are_those_of_brute_force() -> None:
    rows = varied(150)
    kept: list[frozenset[str]] = []
    wanted: list[str | None] = []
    for each in rows:
        own = shingles(each["response"])
        like = any(jaccard(own, other) >= 0.7 for other in kept)
        wanted.append("near-duplicate" if like else None)
        kept += [] if like else [own]
    assert reasons(rows, near_duplicates={"threshold": 0.7}) == wanted
    assert 5 < Counter(wanted)[None] < 145


def test_filters_act_in_order_and_a_dropped_row_hides_no_later_one() -> None:
    rows = [row(0, "the same words here", "length"), row(1, "the same words here"),
            row(2, "the same words here")]  # fmt: skip
    found = reasons(rows, near_duplicates={}, length={"finished": True})
    assert found == ["unfinished", None, "near-duplicate"]
    assert list(Curation.model_fields)[1:-1] == list(FILTERS)


EVERY: dict[str, Any] = {
    "length": {"max_tokens": 10, "finished": True},
    "teacher_loss": {"min_quantile": 0.1, "max_quantile": 0.9},
    "near_duplicates": {"threshold": 0.8},
    "corrupt": {"share": 0.3, "kind": "replace_response"},
}


def made(order: list[int], samples: int, rows: int = 120, **entries: Any) -> Any:
    """Curate rows of one pool in an order; the first part has 20 rows."""
    pool = varied(rows)
    return curate(
        [pool[place] for place in order], samples, dumped(**(entries or EVERY)), "tried",
        losses=loss_rows(pool), donors=pool[:20], part_size=20,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("draw", "kind"), [(0, "shuffle_words"), (2, "replace_response")])
def test_every_size_is_a_prefix_of_every_larger_one(draw: int, kind: str) -> None:
    order = pool_order(draw, 120, 0)
    entries = EVERY | {"corrupt": {"share": 0.3, "kind": kind}}
    whole, decisions, record = made(order, 25, **entries)
    assert len(whole) == record["kept"] == 25
    assert record["corrupted"] > 2
    assert record["read"] == len(decisions) > 30
    for samples in (1, 2, 7, 16, 24):
        # As few candidates as may be, too: what comes later decides nothing.
        read = [each["row"] for each in decisions]
        last = read.index(whole[samples - 1]["row"]) + 1
        for candidates in (order, order[:last]):
            kept, shorter, _ = made(candidates, samples, **entries)
            assert kept == whole[:samples]
            assert shorter == decisions[:last]


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.sampled_from(["a b c d e", "a b c d f", "x y z", "one two three four"]), max_size=7
    ),
    st.floats(0.1, 1.0),
    st.integers(0, 3),
)
def test_any_texts_give_prefixes(texts: list[str], threshold: float, seed: int) -> None:
    rows = [row(place, text) for place, text in enumerate(texts)]
    entries = dumped(
        near_duplicates={"threshold": threshold},
        corrupt={"share": 0.5, "kind": "shuffle_words", "seed": seed},
    )
    count = choose(rows, entries, {}, {}).count(None)
    whole = curate(rows, count, entries, "tried")[0] if count else []
    for samples in range(1, count + 1):
        assert curate(rows, samples, entries, "tried")[0] == whole[:samples]


def test_corruption_is_paired_across_sizes_draws_and_shares() -> None:
    rows = varied(400)
    kinds = ("shuffle_words", "replace_response")
    for kind, seed in itertools.product(kinds, (0, 1)):
        spoilt = {}
        for share in (0.1, 0.4):
            entry = {"share": share, "kind": kind, "seed": seed}
            found = {each["row"]: corrupted(each, entry, rows[:20]) for each in rows}
            spoilt[share] = {place: each for place, each in found.items() if each is not None}
        assert spoilt[0.1].items() <= spoilt[0.4].items()
        # Rows of one word have no other order: of 400 about 2/3 can be shuffled.
        able = len([each for each in rows if len(set(each["response"].split())) > 1])
        total = able if kind == "shuffle_words" else 400
        assert len(spoilt[0.4]) == pytest.approx(0.4 * total, abs=4 * (0.24 * total) ** 0.5)
    first, second = (
        {each["row"]: each["response"] for each in made(pool_order(draw, 120, 0), 80,
         corrupt=EVERY["corrupt"])[0]} for draw in (1, 2)
    )  # fmt: skip
    shared = first.keys() & second.keys()
    assert len(shared) > 40
    assert all(first[place] == second[place] for place in shared)


def test_corrupted_answers_are_what_their_kind_says() -> None:
    rows = varied(60)
    for each in rows:
        other = corrupted(each, {"share": 1.0, "kind": "shuffle_words", "seed": 0}, [])
        words = each["response"].split()
        if len(set(words)) == 1:
            assert other is None
        else:
            assert other is not None
            assert other["response"] != each["response"]
            assert Counter(other["response"].split()) == Counter(words)
            assert other["response_ids"] is None
            assert other["finish_reason"] == each["finish_reason"]
        taken = corrupted(each, {"share": 1.0, "kind": "replace_response", "seed": 0}, rows[:20])
        assert taken is not None
        assert taken["response"] != each["response"]
        source = {(r["response"], tuple(r["response_ids"]), r["finish_reason"]) for r in rows[:20]}
        mark = (taken["response"], tuple(taken["response_ids"]), taken["finish_reason"])
        assert mark in source
        assert (taken["id"], taken["prompt_ids"]) == (each["id"], each["prompt_ids"])
    alike = [row(0, "same"), row(1, "same")]
    with pytest.raises(UserError, match="no other answer"):
        corrupted(alike[0], {"share": 1.0, "kind": "replace_response", "seed": 0}, alike)


@pytest.mark.slow
def test_corruption_keeps_the_rows_that_its_filters_keep() -> None:
    order = pool_order(1, 120, 0)
    filters = {name: EVERY[name] for name in EVERY if name != "corrupt"}
    clean, spoilt = made(order, 20, **filters)[0], made(order, 20)[0]
    assert [each["id"] for each in clean] == [each["id"] for each in spoilt]
    assert clean != spoilt


def test_too_few_rows_are_told_with_the_setting_and_the_counts() -> None:
    rows = [row(0, "a b"), row(1, "a b"), row(2, "other words"), row(3, "x", "length")]
    entries = dumped(near_duplicates={}, length={"finished": True})
    with pytest.raises(UserError) as caught:
        curate(rows, 3, entries, "strict")
    assert str(caught.value) == (
        "curations.strict: 2 of 4 answers were kept (1 near-duplicate, 1 unfinished) but 3 are "
        "needed; raise curations.strict.surplus to about 2.2"
    )


@pytest.mark.slow
def test_the_record_counts_reasons_and_the_cost_up_to_the_last_row_kept() -> None:
    rows = [row(0, "a b"), row(1, "a b"), row(2, "x", "length"), row(3, "other"), row(4, "late")]
    entries = dumped(near_duplicates={}, length={"finished": True})
    _, decisions, record = curate(rows, 2, entries, "strict")
    assert [each["dropped"] for each in decisions] == [None, "near-duplicate", "unfinished", None]
    assert record == {
        "read": 4, "kept": 2, "dropped": {"near-duplicate": 1, "unfinished": 1}, "corrupted": 0,
        "loss_cuts": {}, "dropped_flops": 110.0, "dropped_seconds": 3.0, "filter_flops": 0,
        "filter_seconds": 0,
    }  # fmt: skip
    assert (
        made(list(range(120)), 5)[2]["filter_flops"] == 100.0 * made(list(range(120)), 5)[2]["read"]
    )


def test_a_curated_shard_says_what_was_dropped(tmp_path: Path) -> None:
    words = tiny.tokenizer()
    rows = [tiny.text_row(words, place, f"p {place}", text) for place, text in
            enumerate(["a river", "a river", "the mill", "two gulls", "an oven"])]  # fmt: skip
    for part, held in enumerate((rows[:3], rows[3:])):
        write_rows(tmp_path / f"{part}.parquet", held, TEXT_SCHEMA, tokenizer_sha256="abc")
    parts = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    spec = {"samples": 3, "draw": 0, "curation": dumped(near_duplicates={"threshold": 0.7})}
    text, decisions = tmp_path / "n3.text.parquet", tmp_path / "n3.decisions.parquet"
    curate_files(parts, [4, 1, 0, 2], spec, "apart", text, decisions)
    out = tmp_path / "draw0" / "n3.parquet"
    build_shard([text], [], spec, out, decisions=decisions)
    assert read_rows(out) == [rows[4], rows[1], rows[2]]
    assert read_metadata(out, "tokenizer_sha256") == "abc"
    record = read_json(out.with_suffix(".json"))
    assert record["curation"]["dropped"] == {"near-duplicate": 1}
    assert (record["curation"]["read"], record["rows"]) == (4, 3)
    write_card("demo", "big", "apart", "none", tmp_path / "README.md",
               records=[out.with_suffix(".json")])  # fmt: skip
    card = (tmp_path / "README.md").read_text()
    assert "| draw0/n3 | 4 | 3 | 0 | 1 near-duplicate |" in card
    write_rows(
        tmp_path / "rows.parquet", [], DATA_SCHEMA, data={"read": 9, "left_out": {"output": 2}}
    )
    write_card(
        "demo", "big", "raw", "none", tmp_path / "README.md", data=[tmp_path / "rows.parquet"]
    )
    card = (tmp_path / "README.md").read_text()
    assert "Of 9 rows of the data set, these were left out: 2 without `output`." in card
    assert "dropped" not in card
    with pytest.raises(UserError, match="lacks pool row 5"):
        curate_files(parts, [5], spec, "apart", text, decisions)
