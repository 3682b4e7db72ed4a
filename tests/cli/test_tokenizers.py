"""`distill check` opens the tokenizers of local models."""

from pathlib import Path
from typing import Any

import pytest

import tiny
from distill.cli.tokenizers import check_tokenizers
from distill.config.checks.study import parse_study
from distill.core.errors import UserError
from distill.plan.study import Plan

REFUSES = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}{{ m['content'] }}<|im_end|>{% endfor %}"
)

pytestmark = pytest.mark.slow


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    words = tiny.tokenizer()
    folder: Path = tmp_path / "models/base"
    tiny.save(folder, tiny.model("llama", len(words)), words)
    return folder


def plan(**prompts: Any) -> Plan:
    config = tiny.study()
    config["prompts"] |= prompts
    return Plan(parse_study(config))


def test_a_prompt_is_formatted_as_the_study_does(base: Path) -> None:
    check_tokenizers(plan())
    check_tokenizers(plan(system="Be short."))
    data = {"source": "faq", "teacher": None, "template": "{prompt}:"}
    check_tokenizers(plan(**data))


def test_a_chat_template_that_fails_is_told_by_check(base: Path) -> None:
    (base / "chat_template.jinja").write_text(REFUSES)
    check_tokenizers(plan())
    with pytest.raises(UserError, match=r"config: sources\.base: .*\(no system\).*prompts\.system"):
        check_tokenizers(plan(system="Be short."))


def test_a_tokenizer_that_cannot_be_opened_is_told_by_check(base: Path) -> None:
    (base / "tokenizer.json").write_text('{"a":')
    with pytest.raises(UserError, match=r"config: sources\.base: the tokenizer of .* cannot be op"):
        check_tokenizers(plan())
