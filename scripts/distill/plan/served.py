"""Answers of servers: what is asked for, where, and the files that hold the answers."""

from functools import cached_property

from distill.config.study import Study
from distill.core.keys import digest, slug
from distill.plan.keys import RESOURCES, Part, Spec, cached, part_name, plain
from distill.plan.pool import Pool

ASKED = ("model", "revision", "software", "top_logprobs", "extra")
"""Settings of a server that its answers depend on."""
DRAWN = ("temperature", "top_k", "top_p", "max_tokens", "seed")
"""Settings of its teacher that they depend on."""
CONNECTION = {"url", "key_variable", "concurrency", "timeout", "retries"}
"""Settings of a server that they do not depend on."""


class Served(Part):
    """What the servers of a study answer."""

    def __init__(self, study: Study, pool: Pool) -> None:
        super().__init__()
        self.pool, self.teachers = pool, study.teachers

    @cached
    def spec(self, teacher: str) -> Spec:
        """What a server's answers depend on: what it is asked for, not where or how fast."""
        entry = self.teachers[teacher]
        return {
            "prompts": self.pool.spec,
            "server": {name: plain(getattr(entry.server, name)) for name in ASKED},
            "formatting": self.pool.formatting,
            "decoding": {name: getattr(entry, name) for name in DRAWN},
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
        """Where a server's answers are asked for, and how: nothing that they depend on."""
        teacher = self.by_key[key]
        server = self.teachers[teacher].server
        return {"teacher": teacher, **(server.model_dump(include=CONNECTION) if server else {})}

    def part(self, teacher: str, split: str, part: int) -> str:
        """A part of a server's answers, with what it said of them."""
        return f"{RESOURCES}/served/{self.key(teacher)}/{part_name(split, part)}"
