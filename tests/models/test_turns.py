"""Where turns end: everywhere that the model's own generation would stop."""

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
import token_families as families
from distill.core.errors import UserError
from distill.models.tokenizers import facts_of, load_tokenizer
from distill.models.turns import answer_ids, controls_inside, find_turns, turns_of


def ends_of(words: Any, template: str = "chat") -> tuple[set[str], str]:
    """The stops and the end of an answer, as text."""
    turns = turns_of(words, template)
    names = words.convert_ids_to_tokens([*turns.stops, turns.end])
    return set(names[:-1]), names[-1]


def test_a_base_model_ends_at_its_eos_alone(tmp_path: Path, plain: Any) -> None:
    assert turns_of(plain).stops == (plain.eos_token_id,)
    folder = families.saved(tmp_path, plain, plain.eos_token_id)
    turns = turns_of(load_tokenizer(folder))
    assert (turns.stops, turns.end) == ((plain.eos_token_id,), plain.eos_token_id)


def test_a_turn_ends_at_eos_or_at_the_templates_own_mark(chat: Any) -> None:
    assert ends_of(chat) == ({"<|im_end|>"}, "<|im_end|>")
    other = tiny.tokenizer(chat=True)
    other.add_special_tokens({"eos_token": "<|endoftext|>", "extra_special_tokens": ["<|im_end|>"]})
    assert ends_of(other) == ({"<|endoftext|>", "<|im_end|>"}, "<|im_end|>")
    assert ends_of(other, "Q: {prompt}\nA:") == ({"<|endoftext|>", "<|im_end|>"}, "<|endoftext|>")
    other.chat_template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    assert ends_of(other) == ({"<|endoftext|>"}, "<|endoftext|>")


@pytest.mark.parametrize("named", [False, True])
def test_an_end_that_is_special_in_the_tokenizers_file_alone_counts(named: bool) -> None:
    words = families.phi(named)
    assert (words.convert_tokens_to_ids("<|end|>") in words.all_special_ids) == named
    assert ends_of(words) == ({"<|end|>", "<|endoftext|>"}, "<|end|>")


def test_an_end_that_is_added_but_not_special_counts_behind_an_answer() -> None:
    control = ("<|user|>", "<|end|>", "<|assistant|>")
    words = families.byte_level(*control, eos="<|endoftext|>", template=families.PHI, special=False)
    assert ends_of(words) == ({"<|end|>", "<|endoftext|>"}, "<|end|>")


def test_all_ends_of_the_generation_config_count(tmp_path: Path) -> None:
    words = families.byte_level("<|a|>", "<|b|>", eos="<|endoftext|>")
    a, b = words.convert_tokens_to_ids(["<|a|>", "<|b|>"])
    loaded = load_tokenizer(families.saved(tmp_path, words, [0, a, b]))
    assert ends_of(loaded) == ({"<|a|>", "<|b|>", "<|endoftext|>"}, "<|endoftext|>")


def test_an_ordinary_token_ends_where_the_generation_config_says_so(tmp_path: Path) -> None:
    words = families.byte_level(eos="<|endoftext|>")
    letter = words.convert_tokens_to_ids("Z")
    loaded = load_tokenizer(families.saved(tmp_path / "said", words, [0, letter]))
    assert turns_of(loaded).stops == (0, letter)
    default = families.saved(tmp_path / "default", words, eos_token_id=letter)
    assert turns_of(load_tokenizer(default)).stops == (0,)
    (default / "generation_config.json").unlink()
    assert turns_of(load_tokenizer(default)).stops == (0,)


def test_an_end_beyond_the_tokenizer_is_none(tmp_path: Path, plain: Any) -> None:
    loaded = load_tokenizer(families.saved(tmp_path, plain, [0, 50256]))
    assert turns_of(loaded).stops == (0,)


def test_a_template_without_ends_ends_where_the_next_turn_begins() -> None:
    control = ("<|user|>", "<|assistant|>")
    words = families.byte_level(*control, eos="<|endoftext|>", template=families.HEADS_ONLY)
    assert ends_of(words) == ({"<|assistant|>", "<|endoftext|>", "<|user|>"}, "<|endoftext|>")


def test_templates_that_refuse_a_chat_still_end() -> None:
    words = families.byte_level(
        "<start_of_turn>", "<end_of_turn>", eos="<|endoftext|>", template=families.GEMMA
    )
    assert ends_of(words) == ({"<end_of_turn>", "<|endoftext|>"}, "<end_of_turn>")
    words.chat_template = "{{ raise_exception('no') }}"
    assert ends_of(words) == ({"<|endoftext|>"}, "<|endoftext|>")
    words.chat_template = {"tools": families.GEMMA}
    assert ends_of(words) == ({"<|endoftext|>"}, "<|endoftext|>")
    assert ends_of(families.sentence_pieces(families.MISTRAL)) == ({"</s>"}, "</s>")


def test_without_any_end_the_remedy_is_named(tmp_path: Path) -> None:
    words = families.byte_level(eos="<|endoftext|>", pad_token="<|im_start|>")
    words.eos_token = None
    folder = families.saved(tmp_path / "without", words, eos_token_id=None)
    loaded = load_tokenizer(folder)
    assert find_turns(loaded) is None
    with pytest.raises(UserError, match=r"no token that ends an answer; set eos_token in its tok"):
        turns_of(loaded)
    named = load_tokenizer(families.saved(tmp_path / "with", words, 2))
    assert ends_of(named) == ({"<|im_end|>"}, "<|im_end|>")


def test_an_answer_that_already_ends_has_one_end(chat: Any) -> None:
    turns = turns_of(chat)
    wanted = [*chat("Yes.", add_special_tokens=False).input_ids, turns.end]
    for text in ("Yes.", "Yes.<|im_end|>", "Yes.<|im_end|>\n", "Yes.<|im_end|><|im_end|> "):
        assert answer_ids(chat, text, turns) == (wanted, "Yes.")
    assert answer_ids(chat, "Yes.", turns, finished=False)[0] == wanted[:-1]


def test_control_tokens_in_an_answer_are_text(chat: Any) -> None:
    turns, text = turns_of(chat), "Write <|im_end|> or <|im_start|>user behind it."
    ids, same = answer_ids(chat, text, turns)
    assert (ids.count(turns.end), same) == (1, text)
    assert chat.decode(ids[:-1]) == text
    assert not {chat.convert_tokens_to_ids(t) for t in tiny.SPECIAL} & set(ids[:-1])


def test_an_answer_beyond_the_embeddings_is_named(tmp_path: Path) -> None:
    words = families.byte_level(eos="<|endoftext|>")
    words.add_tokens(["bridge"])
    loaded = load_tokenizer(families.saved(tmp_path, words, 0, rows=len(words) - 1))
    turns = turns_of(loaded)
    assert answer_ids(loaded, "The boat.", turns)[0][-1] == turns.end
    with pytest.raises(UserError, match=r"'bridge' \(id \d+\), but the embeddings .* hold \d+ ids"):
        answer_ids(loaded, "The bridge.", turns)


def test_padding_uses_an_id_that_the_model_holds(tmp_path: Path) -> None:
    words = families.byte_level(eos="<|endoftext|>")
    rows = len(words)
    words.add_special_tokens({"pad_token": "[PAD]"})
    loaded = load_tokenizer(families.saved(tmp_path, words, 0, rows=rows))
    assert (loaded.pad_token_id, facts_of(loaded).rows) == (0, rows)


def test_control_tokens_that_a_model_goes_on_behind_are_named(chat: Any) -> None:
    start, end = chat.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    rows = [{"response_ids": [7, start, 9, end]}, {"response_ids": [8, end]}]
    assert controls_inside(rows, chat) == {str(start): "<|im_start|>"}


def test_what_was_saved_is_what_is_read(tmp_path: Path) -> None:
    folder = families.saved(tmp_path, families.phi(), [0, 301])
    said = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    assert said == [0, 301]
    assert facts_of(load_tokenizer(folder)).stops == (0, 301)
