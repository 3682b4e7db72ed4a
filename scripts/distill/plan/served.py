"""Answers of servers: the requests, the connection, and the files of the answers."""

from functools import cached_property

from distill.config.study import Study
from distill.core.keys import digest, slug
from distill.plan.decoding import decoding_of
from distill.plan.keys import RESOURCES, Part, Spec, cached, part_name, plain
from distill.plan.pool import Pool

SERVER_KEYS = ("model", "revision", "software", "top_logprobs", "extra")
"""Settings of a server that its answers depend on."""
DECODING_KEYS = ("temperature", "top_k", "top_p", "max_tokens", "seed")
"""Settings of the teacher that a server's answers depend on."""
CONNECTION = {"url", "key_variable", "concurrency", "timeout", "retries"}
"""Settings of a server that its answers do not depend on."""


class Served(Part):
    """Answers of the study's servers."""

    def __init__(self, study: Study, pool: Pool) -> None:
        super().__init__()
        self.pool, self.teachers = pool, study.teachers

    @cached
    def spec(self, teacher: str) -> Spec:
        """What a server's answers depend on: the requests, not the connection."""
        entry = self.teachers[teacher]
        settings = plain(entry.chat_template_kwargs)
        return {
            "prompts": self.pool.spec,
            "server": {name: plain(getattr(entry.server, name)) for name in SERVER_KEYS},
            "formatting": self.pool.formatting | ({"settings": settings} if settings else {}),
            "decoding": decoding_of(entry, DECODING_KEYS),
        }

    @cached
    def key(self, teacher: str) -> str:
        """Folder name of a server's answers."""
        server = self.teachers[teacher].server
        return f"{slug(server.model if server else '')}-{digest(self.spec(teacher))}"

    @cached_property
    def by_key(self) -> dict[str, str]:
        """Teacher of each server's answers."""
        return {self.key(name): name for name, entry in self.teachers.items() if entry.server}

    def connection(self, key: str) -> Spec:
        """The connection to a server, by the key of its answers; answers do not depend on it."""
        teacher = self.by_key[key]
        server = self.teachers[teacher].server
        return {"teacher": teacher, **(server.model_dump(include=CONNECTION) if server else {})}

    def part(self, teacher: str, split: str, part: int) -> str:
        """A part of a server's answers, with their log-probabilities and metadata."""
        return f"{RESOURCES}/served/{self.key(teacher)}/{part_name(split, part)}"
