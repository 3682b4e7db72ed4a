"""What a chat template refuses, found without the library that applies it."""

from typing import Any

_TURNS = [{"role": "user", "content": "a"}]
_SYSTEM = [{"role": "system", "content": "a"}]


class _RefusedError(Exception):
    """What a template says when it takes no such chat."""


def _refuse(message: str) -> None:
    raise _RefusedError(message)


def refusal_of_system(template: str) -> str | None:
    """What a chat template says to a system turn that it does not take; None if it takes one.

    Faults of other kinds are left to the library, whose templates may use more than is here.
    """
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    engine = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    names: dict[str, Any] = {
        "raise_exception": _refuse,
        "strftime_now": lambda _: "",
        "bos_token": "",
        "eos_token": "",
    }
    try:
        engine.from_string(template).render(
            messages=[*_SYSTEM, *_TURNS], add_generation_prompt=True, **names
        )
    except _RefusedError as refused:
        return " ".join(str(refused).split())
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError):
        return None
    return None
