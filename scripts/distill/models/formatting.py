"""Convert a prompt to a model's input: with a chat template, Alpaca's, or your own text."""

from collections.abc import Callable
from typing import Any

from jinja2 import TemplateError

from distill.core.errors import UserError

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request.\n\n### Instruction:\n{prompt}\n\n### Response:\n"
)
ALPACA_WITH_CONTEXT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n### Instruction:\n"
    "{prompt}\n\n### Input:\n{context}\n\n### Response:\n"
)
_MARK = "\u2603prompt\u2603"


def _messages(prompt: str, system: str | None) -> list[dict[str, str]]:
    turns = [{"role": "system", "content": system}] if system is not None else []
    return [*turns, {"role": "user", "content": prompt}]


def _require_chat(tokenizer: Any) -> None:
    if not tokenizer.chat_template:
        raise UserError(
            "prompts.template is chat (or prompts.source is magpie) but the model's tokenizer has "
            "no chat template; set prompts.template to alpaca or to a text with {prompt}"
        )


def _apply(tokenizer: Any, messages: list[dict[str, str]], **settings: Any) -> Any:
    """Apply the tokenizer's chat template, which comes with the model and runs in a sandbox.

    Raises:
        UserError: The template rejects the messages, is broken, or tries to leave the sandbox.
    """
    try:
        return tokenizer.apply_chat_template(messages, **settings)
    except (TemplateError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"the chat template of the model {tokenizer.name_or_path} cannot be used ({reason}); "
            "set prompts.template to alpaca or to a text with {prompt}, or remove prompts.system"
        ) from None


def encoder(
    tokenizer: Any, template: str, system: str | None, with_context: str | None = None
) -> Callable[[str, str | None], list[int]]:
    """A function from a prompt and its context to token ids, up to where the response begins.

    Args:
        tokenizer: The model's.
        template: `chat`, `alpaca`, or a text with {prompt} and optionally {context}.
        system: System turn of the chat template.
        with_context: A text with both, in place of such a template where there is a context.

    Raises:
        UserError: The template is `chat` and the tokenizer has none.
    """
    if template == "chat":
        _require_chat(tokenizer)

        def chat(prompt: str, context: str | None = None) -> list[int]:
            text = f"{prompt}\n\n{context}" if context else prompt
            ids: list[int] = _apply(
                tokenizer,
                _messages(text, system),
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
            )
            return ids

        return chat

    def plain(prompt: str, context: str | None = None) -> list[int]:
        text = template
        if template == "alpaca":
            text = ALPACA_WITH_CONTEXT if context else ALPACA
        elif context and with_context:
            text = with_context
        elif context and "{context}" not in template:
            prompt = f"{prompt}\n\n{context}"
        # Cut at the fields first: a prompt that itself says {context} stays as it is.
        head, _, tail = text.partition("{prompt}")
        fill = [piece.replace("{context}", context or "") for piece in (head, tail)]
        ids: list[int] = tokenizer(fill[0] + prompt + fill[1]).input_ids
        return ids[:-1] if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id else ids

    return plain


def magpie_prefix(tokenizer: Any, system: str | None) -> list[int]:
    """Token ids up to where the user's turn begins (Magpie, Xu 2024).

    Raises:
        UserError: The tokenizer has no chat template.
    """
    _require_chat(tokenizer)
    text = _apply(tokenizer, _messages(_MARK, system), tokenize=False)
    ids: list[int] = tokenizer(text.split(_MARK)[0], add_special_tokens=False).input_ids
    return ids


def turn_end(tokenizer: Any) -> list[int]:
    """Tokens that end a turn: EOS, and what the chat template puts behind the user's text."""
    ends = {tokenizer.eos_token_id}
    if tokenizer.chat_template:
        text = _apply(tokenizer, _messages(_MARK, None), tokenize=False)
        after = tokenizer(text.split(_MARK)[1], add_special_tokens=False).input_ids
        if after and after[0] in tokenizer.all_special_ids:
            ends.add(after[0])
    return sorted(ends)
