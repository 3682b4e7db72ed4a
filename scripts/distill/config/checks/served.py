"""What a served teacher cannot give, and what would make two of them one."""

from distill.config.methods import Cache
from distill.config.server import GIVES_IDS, Server
from distill.config.study import Study


def not_served(server: Server, cache: Cache) -> str | None:
    """Why a cache cannot be had from a server's log-probabilities, with the remedy; None if it can.

    Of each distribution the likeliest tokens are known, at temperature 1, and no more: neither the
    normaliser of another temperature nor the prompt's positions nor hidden states.
    """
    most = server.top_logprobs - 1
    if most < 1:
        return f"the teacher's server is asked for text alone; set server.top_logprobs (software {' or '.join(GIVES_IDS)}), or give the teacher a source that scores its text here"
    if cache.scheme not in ("top_k", "top_k_tail"):
        return f"a server gives its likeliest tokens alone; use scheme top_k_tail or top_k, not {cache.scheme}, or give the teacher a source that scores its text here"
    if cache.k is None or cache.k > most:
        return f"k is {cache.k}, but of server.top_logprobs: {server.top_logprobs} only {most} are sure to be the likeliest; lower k or raise that"
    for key, given in (
        ("temperatures", cache.temperatures), ("teachers", cache.teachers),
        ("hidden", cache.hidden), ("tokens: all", cache.tokens == "all"),
    ):  # fmt: skip
        if given:
            return f"{key} needs a model here, not a server; remove it, or give the teacher a source that scores its text here"
    return None


def served_twice(study: Study) -> list[str]:
    """Models of one name at several addresses: their text would be taken for one model's."""
    found: dict[tuple[str, str | None], tuple[str, str]] = {}
    problems = []
    for name, teacher in study.teachers.items():
        if teacher.server is None:
            continue
        key = teacher.server.model, teacher.server.revision
        first, url = found.setdefault(key, (name, teacher.server.url))
        if url != teacher.server.url:
            problems.append(
                f"teachers.{name}.server.model: {teacher.server.model!r} is also {first}'s, at another address, and text does not depend on addresses; give one of them a revision, or both one url"
            )
    return problems
