"""Whether more responses per prompt help: the table does not say how many a prompt has."""

from distill.answers.answer import Answer, Need
from distill.answers.measured import Measured

KEY = "more_responses"


def answer(study: Measured) -> list[Answer]:
    """No study of this workflow varies the responses per prompt, so no setting answers this."""
    return [Answer(KEY, {}, "cannot_tell", {"compared": []}, (Need("responses_per_prompt"),))]
