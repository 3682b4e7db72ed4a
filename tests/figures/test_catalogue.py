"""Which figures a study has, and that each entry has its module and caption."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.config.checks.study import parse_study
from distill.config.own_table import TableStudy
from distill.contracts.figures import FIGURES, TRAITS, figures_with
from distill.core.errors import UserError
from distill.figures.figure import COLUMNS, find_figure, read_caption
from distill.figures.over_samples import COLUMNS as SAMPLE_COLUMNS
from distill.plan.figures import figures_of
from distill.plan.study import Plan
from miniature import ROOT

CAPTIONS = ROOT / "report"
LAWS = {"law_curves", "judged", "rollouts", "exponents", "residuals"}


def figures(change: dict[str, Any], base: str = "config.yaml") -> set[str]:
    """The figures of a shipped study of which some sections are replaced."""
    config = yaml.safe_load((ROOT / base).read_text()) | change
    plan = Plan(parse_study(config))
    return set(figures_of(plan.study, plan.runs))


def blocks(**change: Any) -> dict[str, Any]:
    """The default study's first block alone, changed."""
    (block, *_) = yaml.safe_load((ROOT / "config.yaml").read_text())["runs"]
    return {"runs": [block | change]}


@pytest.mark.parametrize("name", FIGURES)
def test_every_entry_has_a_module_and_a_caption(name: str) -> None:
    figure = find_figure(name)
    assert len(read_caption(CAPTIONS, name)) > 80
    assert figure.title
    assert figure.empty.endswith(".")
    assert figure.columns in (tuple(COLUMNS), SAMPLE_COLUMNS)
    assert {figure.colour, figure.shape, *figure.dodge} <= {*figure.columns, *figure.hidden}
    assert figure.layers


def test_every_trait_is_explained_and_used() -> None:
    assert set().union(*FIGURES.values()) == set(TRAITS)
    assert figures_with(TRAITS) == list(FIGURES)
    assert figures_with([]) == ["pareto"]


def test_a_missing_caption_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"kl_gap\.rst"):
        read_caption(tmp_path, "kl_gap")


def test_figures_are_in_the_order_of_the_report() -> None:
    plan = Plan(parse_study(yaml.safe_load((ROOT / "config.yaml").read_text())))
    names = figures_of(plan.study, plan.runs)
    assert names == [name for name in FIGURES if name in names]


def test_the_default_study_has_all_but_what_it_does_not_ask() -> None:
    assert set(FIGURES) - figures({}) == {"curation_effect", "cache_cost", "search"}


def test_the_sizes_of_a_study_decide_on_laws() -> None:
    (block, *_) = yaml.safe_load((ROOT / "config.yaml").read_text())["runs"]
    students, methods = block["students"], block["methods"]
    single = blocks(students=students[:1], methods=methods[:1], samples=[20], draws=[0])
    assert not figures(single) & {*LAWS, "size_curves"}
    assert {"perplexity", "pareto"} <= figures(single)
    three = blocks(students=students[:1], methods=methods[:1], samples=[20, 40, 80], draws=[0])
    assert not figures(three) & LAWS  # three runs determine no law
    twice = blocks(students=students[:1], methods=methods[:1], samples=[20, 40, 80], draws=[0, 1])
    assert figures(twice) & LAWS == LAWS - {"judged", "rollouts"}
    four = blocks(students=students[:1], methods=methods[:1], samples=[20, 40, 80, 160], draws=[0])
    assert figures(four) >= LAWS
    pair = blocks(students=students[:2], methods=methods[:1], samples=[20], draws=[0])
    assert "size_curves" in figures(pair)
    assert not figures(pair) & LAWS


@pytest.mark.parametrize(
    ("study", "present", "absent"),
    [
        ("cache", {"cache_cost"}, LAWS | {"curation_effect", "search"}),
        ("gpt2_large_qa", {"search"}, LAWS | {"size_curves", "cache_cost"}),
        ("bert_wikitext", {"curation_effect", "flops_split", "kl_gap"},
         {"pass_rate", "combined", "search"}),
    ],
)  # fmt: skip
def test_shipped_studies_have_what_they_ask(
    study: str, present: set[str], absent: set[str]
) -> None:
    names = figures({}, f"studies/{study}.yaml")
    assert present <= names
    assert not absent & names


def test_a_teacher_with_another_tokenizer_has_no_gap() -> None:
    names = figures({}, "studies/miniature/mistral_phi2_dolly.yaml")
    assert not names & {"kl_gap", "distillation_gap", "combined"}
    config = yaml.safe_load((ROOT / "studies/miniature/mistral_phi2_dolly.yaml").read_text())
    (block,) = config["runs"]
    same = block | {"students": ["mistral-2"], "methods": ["layer-wise"], "caches": ["layers"]}
    both = figures({"runs": [block, same]}, "studies/miniature/mistral_phi2_dolly.yaml")
    assert both >= {"kl_gap", "distillation_gap", "combined"}


def test_work_of_a_teacher_is_split_where_there_is_any() -> None:
    config = yaml.safe_load((ROOT / "studies/miniature/mistral_phi2_dolly.yaml").read_text())
    assert "flops_split" in figures({}, "studies/miniature/mistral_phi2_dolly.yaml")
    (block,) = config["runs"]
    methods = {"sft": {"ce": 1.0}}
    text = {"methods": methods, "runs": [block | {"methods": ["sft"], "caches": []}]}
    assert "flops_split" not in figures(text, "studies/miniature/mistral_phi2_dolly.yaml")


def test_a_table_of_ones_own_has_what_its_columns_allow() -> None:
    columns = {"params": "N", "tokens": "D", "loss": "L"}

    def table(**more: str) -> set[str]:
        table = {"path": "runs.csv", "columns": columns | more}
        return set(figures_of(TableStudy.model_validate({"study": "mine", "runs_table": table})))

    assert table() == {*LAWS, "size_curves", "pareto"}
    assert table(teacher_loss="t", teacher_params="n") == table() | {"distillation_gap"}
