"""What a chat template writes and refuses, found without the library that applies it."""

from collections.abc import Mapping, Sequence
from typing import Any

_USER_TEXT, _SYSTEM_TEXT = "plugh", "xyzzy"
"""Words that no template has."""
_TURNS = [{"role": "user", "content": _USER_TEXT}]
_SYSTEM = [{"role": "system", "content": _SYSTEM_TEXT}]


class RefusedError(Exception):
    """What a template says when it takes no such chat."""


def _refuse(message: str) -> None:
    raise RefusedError(message)


def rendered(template: str, turns: Sequence[Mapping[str, str]], **names: Any) -> str | None:
    """A chat in a template, with the prompt of an answer if a user's turn is last; None if it fails
    here.

    The library's templates may use more than is here, so its faults are not those of the library.

    Raises:
        RefusedError: The template refuses the chat.
    """
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    engine = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    given: dict[str, Any] = {
        "raise_exception": _refuse,
        "strftime_now": lambda _: "",
        "bos_token": "",
        "eos_token": "",
        "add_generation_prompt": turns[-1]["role"] == "user",
    }
    try:
        return engine.from_string(template).render(messages=list(turns), **(given | names))
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError):
        return None


def refusal_of_system(template: str) -> str | None:
    """Why a chat template does not take a system turn: what it says, or that it leaves its text
    out; None if it takes one."""
    try:
        text = rendered(template, [*_SYSTEM, *_TURNS])
    except RefusedError as refused:
        return " ".join(str(refused).split())
    # One that leaves out the user's text too reads parts of texts.
    left_out = text is not None and _SYSTEM_TEXT not in text.lower() and _USER_TEXT in text.lower()
    return "it leaves that text out" if left_out else None
