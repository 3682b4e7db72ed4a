"""Display of text from models, data sets and configs, with visible control characters."""

import reprlib
import unicodedata
from collections.abc import Iterable
from typing import Any

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(text: str) -> str:
    """Replace control, direction and other invisible characters by their code points.

    ESC becomes ⟨U+001B⟩; line breaks and tabs stay.
    """
    if text.isprintable():  # the common case, and fast for long figures
        return text
    return "".join(map(_visible_character, text.replace("\r\n", "\n")))


def _visible_character(character: str) -> str:
    hidden = unicodedata.category(character) in _HIDDEN and character not in "\n\t"
    return f"⟨U+{ord(character):04X}⟩" if hidden else character


_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxother, _BRIEF.maxlong = 3, 200, 200, 60
_LONGEST = 300


def brief(value: Any) -> str:
    """A value for an error sentence: on one line and at most 300 characters long."""
    text = _BRIEF.repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def short_name(name: Any) -> str:
    """A key or column name for a sentence: on one line, cut to 100 characters."""
    text = str(name) if str(name).isprintable() else repr(name)
    return text if len(text) <= 100 else f"{text[:99]}…"


def listed(names: Iterable[Any], most: int = 30) -> str:
    """Names separated by commas; of many names the first `most`."""
    texts = [short_name(name) for name in names]
    more = [f"… ({len(texts) - most} more)"] if len(texts) > most else []
    return ", ".join([*texts[:most], *more])
