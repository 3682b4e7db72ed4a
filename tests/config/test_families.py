"""The family of masked students: its rule, its sizes, and that they are those of built models."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModelForMaskedLM

from distill.config.families import bert_parameters, closed_form, family_config
from distill.models.flops import count_parameters

ROOT = Path(__file__).resolve().parents[2]
BERT = {"vocab_size": 30522, "max_position_embeddings": 512}


def built(config: dict[str, Any]) -> tuple[int, int]:
    """Parameters of the library's own model, built without memory for its weights."""
    with torch.device("meta"):
        return count_parameters(
            AutoModelForMaskedLM.from_config(AutoConfig.for_model("bert", **config))
        )


def students() -> dict[str, Any]:
    study = yaml.safe_load((ROOT / "studies/bert_wikitext.yaml").read_text())
    found: dict[str, Any] = study["students"]
    return found


def test_bert_base_has_its_known_size() -> None:
    base = family_config(12) | {"num_hidden_layers": 12} | BERT
    assert bert_parameters(base)[0] == 109_514_298  # as Devlin's: 110M
    assert bert_parameters(base) == built(base)


def test_closed_forms_are_those_of_built_models() -> None:
    odd = {"hidden_size": 24, "num_hidden_layers": 5, "num_attention_heads": 3}
    odd |= {"intermediate_size": 50, "vocab_size": 91, "max_position_embeddings": 17}
    for config in (odd, odd | {"type_vocab_size": 4}):
        assert bert_parameters(config) == built(config)


@pytest.mark.slow
def test_the_studys_students_follow_the_rule_and_have_the_sizes_it_states() -> None:
    sizes = []
    for name, student in students().items():
        config = {key: value for key, value in student["config"].items() if key != "model_type"}
        assert config == family_config(int(name[1:])) | BERT
        assert student["params"] == closed_form(student["config"]) == built(config)[0]
        sizes.append(student["params"])
    assert sizes == sorted(sizes)
    assert sizes[0] == pytest.approx(2e6, rel=0.05)
    assert sizes[-1] == pytest.approx(100e6, rel=0.05)
    assert sizes[-1] < bert_parameters(family_config(12) | {"num_hidden_layers": 12} | BERT)[0]


@pytest.mark.slow
def test_the_studys_page_shows_those_sizes() -> None:
    page = (ROOT / "docs/studies/bert_wikitext.md").read_text()
    rows = re.findall(
        r"^\| (h\d+) \| (\d+) \| (\d+) \| (\d+) \| ([\d,]+) \| ([\d,]+) \|", page, re.M
    )
    assert [row[0] for row in rows] == list(students())
    for name, heads, width, layers, *counts in rows:
        config = students()[name]["config"]
        assert (int(heads), int(width), int(layers)) == (
            config["num_attention_heads"], config["hidden_size"], config["num_hidden_layers"],
        )  # fmt: skip
        assert tuple(int(count.replace(",", "")) for count in counts) == bert_parameters(config)


def test_sizes_that_are_not_all_given_have_no_closed_form() -> None:
    config = {"model_type": "bert", **family_config(2)}
    assert closed_form(config) is None
    assert closed_form(config | BERT) == 4_218_426
    assert closed_form(config | BERT | {"model_type": "roberta"}) is None
