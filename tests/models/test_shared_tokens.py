"""Two models share tokens where equal ids are equal bytes: patterns of published families."""

import re
from pathlib import Path
from typing import Any

import pytest

import tiny
import token_families as families
from distill.core.checksums import tokenizer_sha256
from distill.models.encoding import encode_rows
from distill.models.formatting import encoder
from distill.models.shared_tokens import Reader, difference
from distill.models.tokenizers import facts_of, load_tokenizer
from distill.models.turns import turns_of

HEADERS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


def qwen() -> tuple[Any, Any]:
    """Qwen 2.5: <|im_end|> ends a chat; the base model has its own EOS, and no tool tokens."""
    base = tiny.tokenizer(chat=False)
    teacher = tiny.tokenizer(chat=True)
    teacher.add_tokens(["<tool_call>"])
    return teacher, base


def llama3() -> tuple[Any, Any]:
    """Llama 3: one vocabulary; the base model ends at <|end_of_text|> and has no chat template."""
    control = ("<|begin_of_text|>", "<|end_of_text|>", *HEADERS)
    teacher = families.byte_level(
        *control, eos="<|eot_id|>", template=families.LLAMA3, bos_token="<|begin_of_text|>"
    )
    base = families.byte_level(*control, eos="<|end_of_text|>", bos_token="<|begin_of_text|>")
    return teacher, base


def llama3_reserved() -> tuple[Any, Any]:
    """A chat model of Llama 3 whose control tokens were reserved ids of the base model."""
    base = families.byte_level(
        "<|begin_of_text|>", "<|end_of_text|>",
        *(f"<|reserved_special_token_{number}|>" for number in range(3)),
        eos="<|end_of_text|>", bos_token="<|begin_of_text|>",
    )  # fmt: skip
    return llama3()[0], base


def smollm2() -> tuple[Any, Any]:
    """SmolLM2: one vocabulary, two EOS tokens, another pad token."""
    base = tiny.tokenizer(chat=False)
    return tiny.tokenizer(chat=True), base


def gemma() -> tuple[Any, Any]:
    """Gemma: <end_of_turn> is in both vocabularies and in no role; only one has a template."""
    control = ("<start_of_turn>", "<end_of_turn>")
    teacher = families.byte_level(*control, eos="<|endoftext|>", template=families.GEMMA)
    return teacher, families.byte_level(*control, eos="<|endoftext|>")


def stable() -> tuple[Any, Any]:
    """The chat model added control tokens, for which the base model's embeddings have room."""
    teacher = families.phi()
    return teacher, families.byte_level(eos="<|endoftext|>")


FAMILIES = {
    "qwen": (qwen, 512),
    "llama3": (llama3, None),
    "llama3-reserved": (llama3_reserved, None),
    "smollm2": (smollm2, 384),
    "gemma": (gemma, None),
    "stable": (stable, 320),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_base_student_takes_the_tokens_of_the_chat_model_of_its_family(
    tmp_path: Path, family: str
) -> None:
    pair, rows = FAMILIES[family]
    theirs, base = pair()
    teacher = families.saved(tmp_path / "teacher", theirs, rows=rows and rows + 64)
    student = families.saved(tmp_path / "student", base, rows=rows)
    tokens = Reader.of(student, teacher)
    assert tokens.apart is None
    assert tokenizer_sha256(tokens.tokenizer) == tokenizer_sha256(load_tokenizer(teacher))
    assert tokens.own_sha256 == tokenizer_sha256(load_tokenizer(student))
    assert facts_of(tokens.tokenizer).rows == (rows or len(base))
    assert turns_of(tokens.tokenizer) == turns_of(load_tokenizer(teacher))
    formatting: dict[str, Any] = {"template": "chat", "system": None}
    asked = encoder(load_tokenizer(teacher), **formatting)("Hi?", None)
    row = tiny.text_row(theirs, 0, "Hi?", "Yes.") | {"prompt_ids": asked}
    digest = tokenizer_sha256(load_tokenizer(teacher))
    (example,) = encode_rows([row], tokens.tokenizer, formatting, digest, 64)
    assert (example.prompt, example.answer) == (asked, row["response_ids"])


def test_one_added_token_makes_no_other_tokenizer(tmp_path: Path) -> None:
    words, padded = tiny.tokenizer(chat=True), tiny.tokenizer(chat=True)
    padded.add_special_tokens({"pad_token": "[PAD]"})
    one = families.saved(tmp_path / "one", words)
    other = families.saved(tmp_path / "other", padded)
    assert tokenizer_sha256(words) != tokenizer_sha256(padded)
    for model, text in ((one, other), (other, one)):
        assert Reader.of(model, text).apart is None
    unsized = families.saved(tmp_path / "unsized", padded, rows=len(words))
    assert Reader.of(one, unsized).apart is None  # no text of it has that id


def test_what_keeps_models_apart_is_named(tmp_path: Path) -> None:
    teacher = families.saved(tmp_path / "teacher", families.phi())
    base = families.byte_level(eos="<|endoftext|>")
    for number, (words, reason) in enumerate(
        [(base, r"hold 300 ids but .*<\|user"), (families.sentence_pieces(), "spell bytes")]
    ):
        tokens = Reader.of(families.saved(tmp_path / str(number), words), teacher)
        assert tokens.apart
        assert re.search(reason, tokens.apart), tokens.apart
        assert tokenizer_sha256(tokens.tokenizer) == tokens.own_sha256
    mine = families.byte_level("<|tool|>", *("<|x|>",) * 1, eos="<|endoftext|>")
    other = families.saved(tmp_path / "other", mine, rows=320)
    assert "id 300 is '<|tool|>' in it but '<|user|>'" in str(Reader.of(other, teacher).apart)


def test_another_vocabulary_is_another_tokenizer(tmp_path: Path) -> None:
    small = families.saved(tmp_path / "small", tiny.tokenizer(vocabulary=280))
    large = families.saved(tmp_path / "large", tiny.tokenizer(vocabulary=300))
    assert "embeddings hold 280 ids" in str(Reader.of(small, large).apart)
    assert Reader.of(large, small).apart is None  # its ids are the first 280 of the larger one


def test_a_rare_special_token_counts_where_it_is_used(tmp_path: Path) -> None:
    text, model = tiny.tokenizer(chat=True), tiny.tokenizer(chat=True)
    text.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|tool|>"]})
    model.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|image|>"]})
    number = len(text) - 1
    own = load_tokenizer(families.saved(tmp_path / "model", model))
    assert difference(text, own) is None
    assert difference(text, own, [number]) == (
        f"id {number} is '<|image|>' in it but '<|tool|>' in the text"
    )
