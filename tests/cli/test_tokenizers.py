"""`distill check` opens the tokenizers of local models."""

from pathlib import Path
from typing import Any

import pytest

import tiny
from distill.cli.prompt_lengths import prompt_length_notes
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
    model = tiny.model("llama", len(words), max_position_embeddings=512)
    tiny.save(folder, model, words)
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


def test_prompts_that_leave_no_room_are_counted(base: Path) -> None:
    long, short = "boat " * 40, "Why?"
    rows = [f"{long}{number * 7919}" for number in range(20)] + [f"{short}{n}" for n in range(20)]
    (base.parents[1] / "my.csv").write_text("q\n" + "\n".join(rows) + "\n")

    def notes(pool: int, context: int) -> list[str]:
        config = tiny.study()
        config["sources"]["mine"] = {"path": "my.csv", "fields": {"prompt": "q"}}
        config["prompts"] = {"source": "mine", "pool": pool, "test": 4, "part_size": 8}
        config["teachers"]["big"]["max_tokens"] = context
        config["runs"][0] |= {"samples": [pool], "draws": [0]}
        return prompt_length_notes(Plan(parse_study(config)))

    assert notes(pool=12, context=20) == []
    (note,) = notes(pool=12, context=480)
    assert note.startswith("prompts.max_tokens: 20 of 40 prompts, the longest of ")
    assert "leave no room in the context of teachers.big (512 tokens, 480 for its answer)" in note
    with pytest.raises(UserError, match=r"config: prompts\.max_tokens: 20 of 40 prompts, the long"):
        notes(pool=30, context=480)
