"""An answer equals a text."""


def _plain(text: str) -> str:
    """Without case, repeated white space and a final full stop."""
    return " ".join(text.casefold().split()).removesuffix(".").rstrip()


def passes(answer: str, text: str) -> bool:
    """Whether both are equal apart from case, white space and a final full stop."""
    return _plain(answer) == _plain(text)
