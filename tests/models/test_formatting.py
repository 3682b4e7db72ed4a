from typing import Any

import pytest

import tiny
from distill.core.errors import UserError
from distill.models.formatting import ALPACA, ALPACA_WITH_CONTEXT, encoder, magpie_prefix, turn_end


def written(tokenizer: Any, template: str, prompt: str, context: str | None = None) -> str:
    return str(tokenizer.decode(encoder(tokenizer, template, None)(prompt, context)))


def test_the_chat_template_ends_where_the_answer_begins(chat: Any) -> None:
    encode = encoder(chat, "chat", "Be kind.")
    assert chat.decode(encode("Hi?", None)) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert "user\nSum up.\n\nA text.<|im_end|>" in written(chat, "chat", "Sum up.", "A text.")
    assert "system" not in written(chat, "chat", "Hi?")


def test_a_missing_chat_template_is_a_user_error(plain: Any) -> None:
    for call in (lambda: encoder(plain, "chat", None), lambda: magpie_prefix(plain, None)):
        with pytest.raises(UserError, match=r"no chat template; set prompts\.template"):
            call()


def test_alpacas_template_has_an_input_where_there_is_context(plain: Any) -> None:
    assert written(plain, "alpaca", "Hi?") == ALPACA.replace("{prompt}", "Hi?")
    wanted = ALPACA_WITH_CONTEXT.replace("{prompt}", "Sum up.").replace("{context}", "A text.")
    assert written(plain, "alpaca", "Sum up.", "A text.") == wanted
    assert written(plain, "alpaca", "Hi?", "") == ALPACA.replace("{prompt}", "Hi?")


def test_a_template_of_ones_own_is_filled(plain: Any) -> None:
    assert written(plain, "Q: {prompt}\nA:", "Hi?") == "Q: Hi?\nA:"
    assert written(plain, "Q: {prompt}\nA:", "Sum up.", "A text.") == "Q: Sum up.\n\nA text.\nA:"
    both = "{context} | {prompt} | {context}"
    assert written(plain, both, "Hi?", "X") == "X | Hi? | X"
    assert written(plain, both, "Hi?") == " | Hi? | "


def test_a_template_with_context_is_for_prompts_that_have_one(plain: Any) -> None:
    both = "# Do\n{prompt}\n# From\n{context}\n# Answer\n"
    encode = encoder(plain, "# Do\n{prompt}\n# Answer\n", None, both)
    for context in (None, ""):
        assert plain.decode(encode("Hi?", context)) == "# Do\nHi?\n# Answer\n"
    wanted = "# Do\nSum {context} up.\n# From\nA {prompt}.\n# Answer\n"
    assert plain.decode(encode("Sum {context} up.", "A {prompt}.")) == wanted


@pytest.mark.parametrize(
    ("template", "before", "after"),
    [
        ("{context}>{prompt}<{context}", "{prompt} {context}>", "<{prompt} {context}"),
        ("alpaca", None, None),
    ],
)
def test_a_prompt_that_speaks_of_fields_stays_as_it_is(
    plain: Any, template: str, before: str | None, after: str | None
) -> None:
    prompt = "What do {context} and {prompt} mean in f'{x}'?"
    text = written(plain, template, prompt, "{prompt} {context}")
    if before is None or after is None:
        assert f"### Instruction:\n{prompt}\n\n### Input:\n{{prompt}} {{context}}\n" in text
    else:
        assert text == f"{before}{prompt}{after}"
    assert prompt in written(plain, "alpaca", prompt)


def test_an_eos_that_the_tokenizer_adds_does_not_end_the_prompt(plain: Any) -> None:
    def with_eos(text: str, **_: Any) -> Any:
        encoded = plain(text)
        encoded["input_ids"] = [*encoded.input_ids, plain.eos_token_id]
        return encoded

    with_eos.eos_token_id = plain.eos_token_id  # type: ignore[attr-defined]
    ids = encoder(with_eos, "{prompt}!", None)("Hi", None)
    assert ids == plain("Hi!").input_ids


def test_magpies_prefix_ends_where_the_user_begins(chat: Any) -> None:
    assert chat.decode(magpie_prefix(chat, None)) == "<|im_start|>user\n"
    wanted = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n"
    assert chat.decode(magpie_prefix(chat, "Be kind.")) == wanted


def test_a_turn_ends_at_eos_or_at_the_templates_own_mark(plain: Any, chat: Any) -> None:
    assert turn_end(plain) == [plain.eos_token_id]
    assert turn_end(chat) == [chat.convert_tokens_to_ids("<|im_end|>")]
    other = tiny.tokenizer(chat=True)
    other.add_special_tokens({"eos_token": "<|endoftext|>", "extra_special_tokens": ["<|im_end|>"]})
    ends = other.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    assert turn_end(other) == sorted(ends)
    other.chat_template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    assert turn_end(other) == [other.eos_token_id]
