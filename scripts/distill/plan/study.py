"""The plan of a study: its run table, and the specs and paths of all outputs, from its config.

A spec is a plain dict of what an output depends on beyond its input files. Snakemake compares it,
results store it, and shared outputs have a hash of it in their path. Its keys have a fixed order.
"""

from collections.abc import Iterable

from distill.config.study import Study
from distill.contracts.run import LIVE, NO_CACHE, RAW, UNTRAINED
from distill.plan.prompts import PromptPool
from distill.plan.results import Results
from distill.plan.stages import Stages


class Plan(Stages):
    """A study: its run table (`runs`), its directory (`results`), its stages and outputs."""

    def __init__(self, study: Study) -> None:
        super().__init__(study)
        self.outputs = Results(self)

    @property
    def prompts(self) -> str:
        """Folder name of the prompts; `none` in a study with a corpus."""
        return self.pool.key if isinstance(self.pool, PromptPool) else "none"

    def wildcards(self) -> dict[str, str]:
        """Constraints of the rules' wildcards, as regular expressions."""
        study = self.study

        def one_of(names: Iterable[str]) -> str:
            return "|".join(names) or "none"

        return {
            "source": "[a-z0-9-]+",
            "prompts": self.prompts,
            "text": one_of(self.text.by_key),
            "served": one_of(self.served.by_key),
            "scorer": one_of(self.scorers.by_key),
            "tokens": "answer|all",
            "targets": one_of(dict.fromkeys(key for _, key in self.targets.by_key)),
            "layers": one_of(dict.fromkeys(key for _, key in self.layers.by_key)),
            "search": one_of(study.searches),
            "split": "test|validation|train",
            "part": r"\d{5}",
            "initial": one_of(self.students.by_key),
            "corpus": one_of(self.corpora.by_key),
            "architecture": one_of(self.efficiency.by_key),
            "draw": r"\d+",
            "seed": r"\d+",
            "samples": r"\d+",
            "student": one_of(study.students),
            "teacher": one_of(study.teachers),
            "method": one_of([*study.methods, UNTRAINED]),
            "curation": one_of([RAW, *study.curations]),
            "loss": one_of(dict.fromkeys(key for _, key in self.losses.by_key)),
            "cache": one_of([*study.caches, NO_CACHE, LIVE]),
        }
