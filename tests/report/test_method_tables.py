from typing import Any

import pytest

from distill.config.methods import OnPolicy
from distill.report.methods import formula, searches_tables, soft_section
from distill.table.lines import Line, lines_of, prepare_runs
from report_page import answers_of, render, tables_of
from synthetic_runs import CACHES, make_references, make_runs, make_search

Rows = list[dict[str, str]]


def shown(references: dict[str, Any], lines: list[Line] | None = None) -> dict[str, Rows]:
    """The tables of the section, by the heading of their first column; the last of a heading."""
    soft = soft_section(lines or [], references, {})
    page = render("methods.html.j2", soft=soft, asked={}, figures={})
    return {next(iter(rows[0])): rows for rows in tables_of(page)}


def methods_shown(methods: dict[str, Any], **references: Any) -> Rows:
    return shown({"methods": methods, **references})["method"]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"ce": 1.0}, "CE(text)"),
        ({"forward_kl": 1.0}, "KL(q ‖ s)"),
        (
            {"ce": 0.5, "forward_kl": 0.5, "temperature": 2.0},
            "0.5 CE(text) + 0.5 T² KL(q ‖ s), T = 2",
        ),
        ({"ce": 1.0, "temperature": 2.0}, "CE(text)"),
        ({"reverse_kl": 2.0}, "2 KL(s ‖ q)"),
        ({"jsd": 1.0, "jsd_beta": 0.1}, "JSD(q, s; β = 0.1)"),
        ({"jsd": 1.0}, "JSD(q, s; β = 0.5)"),
        ({"skew_kl": 1.0}, "KL(q ‖ 0.1 q + 0.9 s)"),
        ({"total_variation": 1.0, "uld": 0.25}, "TV(q, s) + 0.25 ULD(q, s)"),
        ({"ce": 0.5, "spans": 1.0}, "0.5 CE(text) + KL(q ‖ s; aligned spans)"),
        (
            {"ce": 1.0, "hidden": {"layers": {"1": 8, "2": 15}, "weight": 0.1}},
            "CE(text) + 0.1 MSE(hidden states; layers 1 ← 8, 2 ← 15)",
        ),
        ({"embedding": {"loss": "cosine"}}, "cosine distance(final hidden states)"),
        ({}, "–"),
    ],
)
def test_formulas(settings: dict[str, Any], text: str) -> None:
    assert formula(settings) == text


def test_settings_beside_the_loss_are_shown() -> None:
    methods = {
        "kd": {"forward_kl": 1.0, "tokens": "all", "train": {"learning_rate": 0.0002}},
        "head": {"embedding": {"head": "teacher"}, "later": 3},
        "plain": {"ce": 1.0},
    }
    kd, head, plain = methods_shown(methods)
    assert kd == {
        "method": "kd",
        "minimises": "KL(q ‖ s)",
        "other settings": "soft losses on the prompt's tokens too, learning_rate = 0.0002",
    }
    assert head["other settings"] == "the teacher's output head, later = 3"
    assert plain["other settings"] == "–"
    assert soft_section([], {}, {}) is None


@pytest.mark.slow
def test_a_searched_method_shows_the_settings_of_its_search() -> None:
    search = make_search()
    search["settings"] = {"method.forward_kl": 0.25, "train.learning_rate": 6e-4}
    (row,) = methods_shown({"best": {"search": "rates"}}, searches={"rates": search})
    assert row["minimises"] == "0.5 CE(text) + 0.25 KL(q ‖ s)"
    assert row["other settings"] == "set by search rates, train.learning_rate = 6.00 × 10⁻⁴"
    (row,) = methods_shown({"best": {"search": "lost"}})
    assert row == {"method": "best", "other settings": "set by search lost"}


def test_a_live_teacher_is_described() -> None:
    plain, hot = methods_shown(
        {
            "plain": {"jsd": 1.0, "on_policy": {}},
            "hot": {"jsd": 1.0, "on_policy": {"share": 1, "temperature": 0.7, "max_tokens": 9}},
        }
    )
    default = OnPolicy()
    assert plain["minimises"] == "JSD(q, s; β = 0.5)"
    assert plain["other settings"] == (
        f"live teacher, {100 * default.share:g} % of updates on the student's own answers of up to "
        f"{default.max_tokens} tokens"
    )
    assert hot["other settings"] == (
        "live teacher, 100 % of updates on the student's own answers of up to 9 tokens at T = 0.7"
    )


@pytest.mark.slow
def test_caches_are_described() -> None:
    references = make_references()
    teachers = references["caches"]["top4"]["manifest"]["teachers"]
    teachers[0] |= {"weight": 0.25, "quantisation": "int8"}
    other = {"teacher": "large", "weight": 0.75, "distribution": {"temperature": 1.0, "top_p": 0.9}}
    teachers.append(other)
    lines = lines_of(prepare_runs(make_runs(caches=tuple(CACHES))))
    rows = {row["cache"]: row for row in shown(references, lines)["cache"]}
    hidden = rows["hidden"]
    assert hidden["keeps"] == "last hidden states, exact"
    assert hidden["settings"] == "–"
    assert [hidden[name] for name in ("bytes per token", "mass kept", "entropy, nats")] == [
        "1,152", "100.00 %", "0.900",
    ]  # fmt: skip
    assert hidden["teacher"] == "smol (T = 0.7)"
    assert rows["drawn50"]["keeps"] == "draws with replacement"
    assert rows["drawn50"]["settings"] == "50 draws, 8 bits"
    assert rows["top64"]["settings"] == "k = 64, 8 bits, also at T = 2"
    assert rows["top4"]["teacher"] == "0.25 smol (T = 0.7, int8) + 0.75 large (T = 1, top-p 0.9)"


@pytest.mark.slow
def test_caches_of_a_table_without_references_are_described() -> None:
    # A search alone opens the section.
    references = {"searches": {"rates": make_search()}}
    lines = lines_of(prepare_runs(make_runs()))
    (row,) = shown(references, lines)["cache"]
    assert row == {
        "cache": "top64", "bytes per token": "131.0", "mass kept": "98.50 %",
        "entropy, nats": "0.900",
    }  # fmt: skip
    bare = make_runs().drop(columns=["cache_bytes_per_token", "cache_kept_mass", "cache_entropy"])
    (row,) = shown(references, lines_of(prepare_runs(bare)))["cache"]
    assert row == {"cache": "top64"}


def test_searches_are_shown() -> None:
    search = make_search()
    page = render(
        "methods.html.j2",
        soft=soft_section([], {"searches": {"rates": search}}, {}),
        asked={},
        figures={},
    )
    (went,), (best,) = tables_of(page)
    losses = sorted(trial["loss"] for trial in search["trials"] if not trial["pruned"])
    assert [went[name] for name in ("search", "trials", "pruned", "lowest loss")] == [
        "rates", "12", "2", f"{losses[0]:.3f}",
    ]  # fmt: skip
    assert went["median loss"] == f"{losses[len(losses) // 2]:.3f}"
    assert best["setting"] == "train.learning_rate"
    assert best["searched"] == "3.00 × 10⁻⁵ to 0.0100, logarithmic"
    assert searches_tables({}) == ([], [])


def test_a_study_of_one_method_has_no_section() -> None:
    runs = make_runs().query("method != 'kd'")
    assert soft_section(lines_of(prepare_runs(runs)), {}, {}) is None


@pytest.mark.slow
def test_many_comparisons_show_their_largest_size_alone() -> None:
    for caches, rows in ((("top64",), 10), (tuple(CACHES), 8)):
        runs = make_runs(caches=caches)
        asked: dict[str, Any] = {}
        for answer in answers_of(runs, make_references())["answers"]:
            asked.setdefault(answer["key"], []).append(answer)
        section = soft_section(lines_of(prepare_runs(runs)), make_references(), asked)
        assert section is not None
        assert len(section["at_samples"]) == rows
        assert section["largest_alone"] == (rows == 8)
        # Two totals for each cache of each student against plain text.
        assert len(section["at_flops"]) == 2 * 2 * len(caches)
