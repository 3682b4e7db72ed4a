"""Convert a prompt to a model's input: with a chat template, Alpaca's, or your own text."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date as Date
from functools import cache
from typing import Any

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import mark_control_tokens, render_jinja_template

from distill.core.errors import UserError
from distill.models.tokenizers import check_held, special_ids

ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request.\n\n### Instruction:\n{prompt}\n\n### Response:\n"
)
ALPACA_WITH_CONTEXT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n### Instruction:\n"
    "{prompt}\n\n### Input:\n{context}\n\n### Response:\n"
)
DATE = "2024-07-26"
"""Date of chat templates that ask for today's, if the study names none: reruns come later."""
MARK = "\u2603prompt\u2603"
"""Stands for a turn's text where only the template around it matters."""
_PROBE = "xyzzy"
"""A word that no template has."""
_CLOCK = "strftime_now"


def _system_turn(system: str | None) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}] if system is not None else []


def _require_chat(tokenizer: Any) -> None:
    if not tokenizer.chat_template:
        raise UserError(
            "prompts.template is chat (or prompts.source is magpie) but the model's tokenizer has "
            "no chat template; set prompts.template to alpaca or to a text with {prompt}"
        )


@cache
def _dated(template: str, day: str) -> str:
    """A chat template whose clock stands at midnight of a day.

    The library's clock cannot be set, so a macro of the same name hides it: each directive of the
    format is replaced by its value. trim_blocks removes the line break behind the macro.
    """
    if _CLOCK not in template:
        return template
    codes = sorted({*"aAbBdmyYHIMSpjUwWuVGeDFTRhfcxXZzn", *(f"-{code}" for code in "dmHIMSjey")})
    moment = Date.fromisoformat(day)
    values = [(f"%{code}", moment.strftime(f"%{code}")) for code in codes]
    steps = [("%%", "\0"), *values, ("\0", "%")]
    replaced = "".join(f"|replace({code!r}, {value!r})" for code, value in steps)
    macro = f"{{% macro {_CLOCK}(format) %}}{{{{ format{replaced} }}}}"
    return f"{macro}{{% endmacro %}}\n{template}"


@cache
def _takes_parts(template: str) -> bool:
    """Whether a chat template reads a turn's text only out of a list of its parts.

    Templates of models of several modalities (LLaVA, SmolVLM) leave plain text out.
    """
    names = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), "")
    kept = []
    for content in (_PROBE, [{"type": "text", "text": _PROBE}]):
        chat = [{"role": "user", "content": content}]
        try:
            texts, _ = render_jinja_template(conversations=[chat], chat_template=template, **names)
            kept.append(_PROBE in texts[0])
        except (TemplateError, TypeError, ValueError):  # rendering a row reports them
            kept.append(False)
    return kept == [False, True]


def _check_kept(
    tokenizer: Any,
    what: str,
    system: str | None,
    date: str | None,
    settings: Mapping[str, Any] | None,
) -> None:
    """Check that a chat template leaves nothing out; what it rejects is reported for its row.

    Args:
        tokenizer: The model's.
        what: The part of a chat to try: `prompt`, `system` or `turns`.
        system: The system text beside it.
        date: As of `render`.
        settings: As of `render`.

    Raises:
        UserError: It leaves that part out.
    """
    earlier = [{"role": "user", "content": _PROBE}, {"role": "assistant", "content": "b"}]
    chat, part, remedy = {
        "prompt": (messages_of(_PROBE, None, system), "the prompt", ""),
        "system": (messages_of("a", None, _PROBE), "the system text", ", or remove that text"),
        "turns": (messages_of("a", None, system, earlier), "earlier turns", ""),
    }[what]
    try:
        text = render(tokenizer, chat, date, settings, add_generation_prompt=True, tokenize=False)
    except UserError:
        return
    if _PROBE not in text.lower():
        raise UserError(
            f"the chat template of the model {tokenizer.name_or_path} leaves out {part}; set "
            f"prompts.template to alpaca or to a text with {{prompt}}{remedy}"
        )


def render(
    tokenizer: Any,
    messages: list[dict[str, Any]],
    date: str | None = None,
    settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> Any:
    """Apply the tokenizer's chat template, which comes with the model and runs in a sandbox.

    Args:
        tokenizer: The model's.
        messages: Turns with role and content.
        date: What the template takes for today, ISO; `DATE` by default.
        settings: Variables of the template, such as enable_thinking.
        more: Of `apply_chat_template`.

    Raises:
        UserError: The template rejects the messages, is broken, or tries to leave the sandbox.
    """
    try:
        template = _dated(tokenizer.get_chat_template(), date or DATE)
        if _takes_parts(template):
            messages = [
                turn | {"content": [{"type": "text", "text": turn["content"]}]} for turn in messages
            ]
        return tokenizer.apply_chat_template(
            messages, chat_template=template, **(settings or {}), **more
        )
    except (TemplateError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"the chat template of the model {tokenizer.name_or_path} cannot be used ({reason}); "
            "set prompts.template to alpaca or to a text with {prompt}, or remove prompts.system"
        ) from None


def control_tokens(tokenizer: Any) -> re.Pattern[str]:
    """Matches the text of a tokenizer's special tokens, which in data is text like any other."""
    tokens = tokenizer.convert_ids_to_tokens(sorted(special_ids(tokenizer)))
    return re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or "(?!)")


def encode_plain(tokenizer: Any, text: str, controls: re.Pattern[str] | None = None) -> list[int]:
    """Token ids of a text, without special tokens around it or in it.

    Args:
        tokenizer: The model's.
        text: Any text; where it spells a control token, it is encoded as those characters.
        controls: `control_tokens` of the tokenizer, if many texts are encoded.

    Raises:
        UserError: See `_encode_marked`.
    """
    controls = controls or control_tokens(tokenizer)
    if controls.search(text):
        return _encode_marked(tokenizer, mark_control_tokens(text, controls))
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids


def _encode_marked(tokenizer: Any, marked: str) -> list[int]:
    """Token ids of a text in which the library's marks show what is no control token.

    Raises:
        UserError: The tokenizer reads a control token out of plain text.
    """
    try:
        ids: list[int] = tokenizer(
            marked, add_special_tokens=False, sanitize_control_tokens=True
        ).input_ids
    except ValueError as error:
        raise UserError(
            f"a text spells a control token of the model {tokenizer.name_or_path} ({error}); "
            "remove that text from the data"
        ) from None
    return ids


def added_around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Ids that a tokenizer adds before and behind a text."""
    bare = tokenizer("a", add_special_tokens=False).input_ids
    full = tokenizer("a").input_ids
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return full[:start], full[start + len(bare) :]
    return [], []


def asked(row: Mapping[str, Any]) -> tuple[str, str | None, str | None, str | None]:
    """Prompt, context, system text and earlier turns (JSON) of a row, as an encoder takes them."""
    return row["prompt"], row["context"], row.get("system"), row.get("turns")


def messages_of(
    prompt: str,
    context: str | None,
    system: str | None,
    turns: Sequence[dict[str, str]] = (),
) -> list[dict[str, str]]:
    """The turns of a chat up to where the response begins.

    Args:
        prompt: The last user turn.
        context: What is added to it.
        system: The system turn.
        turns: The turns between both.
    """
    text = f"{prompt}\n\n{context}" if context else prompt
    return [*_system_turn(system), *turns, {"role": "user", "content": text}]


def require_single(system: str | None, turns: str | None) -> None:
    """Refuse the parts of a row's chat that only a chat template has a place for.

    Raises:
        UserError: The row has its own system text, or earlier turns.
    """
    if system is not None or turns is not None:
        raise UserError(
            "rows with a system text or several turns need the model's chat template; set "
            "prompts.template to chat, or name a column with a single prompt under fields"
        )


def filled(template: str, with_context: str | None, prompt: str, context: str | None) -> str:
    """The text of a prompt in a template other than `chat`; see `encoder`."""
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
    return fill[0] + prompt + fill[1]


def encoder(
    tokenizer: Any,
    template: str,
    system: str | None,
    with_context: str | None = None,
    date: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Callable[..., list[int]]:
    """A function from what `asked` gives to token ids, up to where the response begins.

    Control tokens come from the template alone: a prompt that spells one is text. There is one BOS,
    whether the template, the tokenizer or both write it, and no EOS that the tokenizer adds.

    Args:
        tokenizer: The model's.
        template: `chat`, `alpaca`, or a text with {prompt} and optionally {context}.
        system: System turn of the chat template, for rows without their own.
        with_context: A text with both, in place of such a template where there is a context.
        date: As of `render`.
        settings: As of `render`.

    Raises:
        UserError: The template is `chat` and the tokenizer has none, or one that leaves a part of a
            chat out.
    """
    controls = control_tokens(tokenizer)
    unchecked = {"prompt", "system", "turns"} if template == "chat" else set[str]()
    if template == "chat":
        _require_chat(tokenizer)
    before, behind = added_around(tokenizer)

    def chat(messages: list[dict[str, str]], spelled: bool) -> list[int]:
        form: dict[str, Any] = {"tokenize": False} if spelled else {"return_dict": False}
        text = render(tokenizer, messages, date, settings, add_generation_prompt=True, **form)
        ids: list[int] = _encode_marked(tokenizer, text) if spelled else text
        return ids

    def plain(prompt: str, context: str | None, spelled: bool) -> list[int]:
        text = filled(template, with_context, prompt, context)
        if spelled:
            ids = [*before, *_encode_marked(tokenizer, text)]
        else:
            ids = tokenizer(text).input_ids
            ids = ids[: len(ids) - len(behind)]
        twice = before and ids[: 2 * len(before)] == 2 * before
        return ids[len(before) :] if twice else ids

    def encode(
        prompt: str, context: str | None = None, own: str | None = None, turns: str | None = None
    ) -> list[int]:
        earlier = json.loads(turns) if turns else []
        has = {"prompt": True, "system": own or system, "turns": earlier}
        for what in [what for what in sorted(unchecked) if has[what]]:
            unchecked.remove(what)
            _check_kept(tokenizer, what, own or system, date, settings)
        spelled = any(
            controls.search(text)
            for text in (prompt, context or "", own or "", *(turn["content"] for turn in earlier))
        )

        def marked(text: str) -> str:
            return mark_control_tokens(text, controls) if spelled else text

        texts = marked(prompt), marked(context) if context else context
        if template == "chat":
            first = system if own is None else marked(own)
            between = [turn | {"content": marked(turn["content"])} for turn in earlier]
            ids = chat(messages_of(*texts, first, between), spelled)
        else:
            require_single(own, turns)
            ids = plain(*texts, spelled)
        check_held(tokenizer, ids, f"the prompt {prompt[:60]!r}")
        return ids

    return encode


def magpie_prefix(
    tokenizer: Any,
    system: str | None,
    date: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> list[int]:
    """Token ids up to where the user's turn begins (Magpie, Xu 2024).

    Raises:
        UserError: The tokenizer has no chat template.
    """
    _require_chat(tokenizer)
    text = render(tokenizer, messages_of(MARK, None, system), date, settings, tokenize=False)
    ids: list[int] = tokenizer(text.split(MARK)[0], add_special_tokens=False).input_ids
    return ids
