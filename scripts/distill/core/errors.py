"""The error that a job or command reports as one sentence."""

from distill.core.display import visible


class UserError(Exception):
    """A mistake that the user can mend; its text is one sentence with the remedy.

    What it quotes of names, cells and other text cannot steer a terminal.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(visible(sentence))
