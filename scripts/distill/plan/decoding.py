"""Settings of a teacher that its text depends on."""

from collections.abc import Iterable

from distill.config.models import Teacher
from distill.plan.keys import Spec

NOT_DECODING = {"source", "text", "trained", "server", "pretraining_tokens", "gpus"}
"""Keys of a teacher that do not change the text of its model."""
IF_SET = ("stop", "thinking", "thinking_end")
"""Keys of a teacher that its decoding has only where they are set."""


def decoding_of(entry: Teacher, names: Iterable[str] | None = None) -> Spec:
    """The settings of a teacher that its text depends on.

    Args:
        entry: The teacher.
        names: The settings; by default all that change the text of a local model.
    """
    chosen = None if names is None else {*names, *IF_SET}
    spec = entry.model_dump(include=chosen, exclude={*NOT_DECODING, "chat_template_kwargs"})
    if not entry.stop:
        del spec["stop"]
    if entry.thinking is None:
        del spec["thinking"], spec["thinking_end"]
    return spec
