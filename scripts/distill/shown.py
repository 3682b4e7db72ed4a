"""How text of models, data sets and configs is shown: nothing in it can hide or act."""

import reprlib
import unicodedata
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


def brief(value: Any) -> str:
    """A value as it is written in a sentence: on one line, and short however large it is."""
    return _BRIEF.repr(value)
