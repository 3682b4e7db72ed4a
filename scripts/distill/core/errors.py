"""The error that a job or command reports as one sentence."""

from distill.core.display import visible


class UserError(Exception):
    """An error that the user can correct; its text is one sentence with the remedy.

    Control characters in quoted text are made visible, so they cannot affect a terminal.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(visible(sentence))
