"""The study of docs/explanation/scale.md: its page says what its plan says."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from transformers import LlamaConfig

import tiny
from distill.config.checks.study import parse_study
from distill.costs.architectures import read_models
from distill.costs.jobs import Forecast
from distill.costs.show import summarise
from distill.costs.work import Lengths
from distill.plan.figures import figures_of
from distill.plan.study import Plan
from machines import MACHINE

pytestmark = pytest.mark.slow  # plans a large study

PROJECT = Path(__file__).parents[2]
BASE = LlamaConfig(
    vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
    num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True, head_dim=64,
)  # fmt: skip
"""SmolLM2's own shape, of which the plan takes the vocabulary."""
PREFIX = 24
"""Tokens of its template before a prompt."""
LENGTHS = {"teacher-70b": Lengths(79.0, 256.0), "small": Lengths(79.0, 128.0)}
"""Prompts of 48 tokens in SmolLM2's template of 31, and answers as long as they may be."""


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """Totals by stage, which no machine changes but for seconds and memory."""
    root = tmp_path_factory.mktemp("large")
    plan = Plan(parse_study(yaml.safe_load((PROJECT / "studies/large.yaml").read_text())))
    folder = (root / plan.sources.manifest("smollm2-135m-instruct")).parent
    folder.mkdir(parents=True)
    BASE.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    (folder / "manifest.json").write_text("{}")
    models = replace(read_models(plan, root), prefix=dict.fromkeys(LENGTHS, PREFIX))
    figures = figures_of(plan.study, plan.runs)
    made = Forecast(plan, models, LENGTHS, MACHINE, figures, root)
    found = summarise(list(made.jobs.values()), [1], 4)
    return {**found["stages"], "all": found["all"]}


def test_the_page_says_what_the_plan_says(stages: dict[str, dict[str, float]]) -> None:
    page = (PROJECT / "docs/explanation/scale.md").read_text()
    row = r"^\| ([a-z ]+) \| ([\d,]+) \| ([\d.e+]+|–) \| (?:(\S+) (TB|PB)|–) \|"
    told = {name: rest for name, *rest in re.findall(row, page, re.M)}
    assert set(told) == set(stages)
    for stage, (jobs, flops, size, unit) in told.items():
        own = stages[stage]
        assert int(jobs.replace(",", "")) == own["jobs"], stage
        assert (flops == "–" and own["flops"] == 0) or flops == f"{own['flops']:.1e}", stage
        disk = own["disk_bytes"] / {"PB": 1e15, "TB": 1e12}.get(unit, 1.0)
        assert (not size and disk < 1e6) or float(size) == float(f"{disk:.2g}"), stage
