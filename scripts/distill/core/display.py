"""How text of models, data sets and configs is shown: nothing in it can hide or act."""

import reprlib
import unicodedata
from collections.abc import Iterable
from typing import Any

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(text: str) -> str:
    """Return text whose control, direction and other invisible characters can be seen.

    They become their code points, ESC is ⟨U+001B⟩; line breaks and tabs stay.
    """
    if text.isprintable():  # most text, and figures, which are long
        return text
    return "".join(map(_visible_character, text.replace("\r\n", "\n")))


def _visible_character(character: str) -> str:
    hidden = unicodedata.category(character) in _HIDDEN and character not in "\n\t"
    return f"⟨U+{ord(character):04X}⟩" if hidden else character


_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxother, _BRIEF.maxlong = 3, 200, 200, 60
_LONGEST = 300


def brief(value: Any) -> str:
    """A value as it is written in a sentence: on one line, and short however large it is."""
    text = _BRIEF.repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def short_name(name: Any) -> str:
    """A key or column as it is named in a sentence: on one line; a long one loses its end."""
    text = str(name) if str(name).isprintable() else repr(name)
    return text if len(text) <= 100 else f"{text[:99]}…"


def listed(names: Iterable[Any], most: int = 30) -> str:
    """Names with commas between them; of very many the first."""
    found = [short_name(name) for name in names]
    more = [f"… ({len(found) - most} more)"] if len(found) > most else []
    return ", ".join([*found[:most], *more])
