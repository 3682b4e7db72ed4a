"""Shards: the rows of a run, their selection by a curation, and the training data."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from distill.config.curation import Curation
from distill.config.study import Study
from distill.contracts.run import NO_CACHE, RAW, Run
from distill.core.keys import pool_order
from distill.plan.corpus import Corpora
from distill.plan.keys import Part, Spec, cached, plain
from distill.plan.pool import Pool
from distill.plan.runs import results_folder
from distill.plan.targets import Layers, Losses, Targets
from distill.plan.text import Text


class Rows(Part):
    """Pool rows of runs, in the orders of their draws."""

    def __init__(self, study: Study, pool: Pool, corpora: Corpora) -> None:
        super().__init__()
        self.study, self.pool, self.corpora = study, pool, corpora
        self._orders: dict[int, list[int]] = {}  # by draw: hashing every row of the pool is slow

    def curation(self, run: Run) -> Curation | None:
        """The curation of the run's rows; None for `raw`."""
        return self.study.curations.get(run.curation)

    def pool_size(self, run: Run) -> int:
        """Number of rows that the run's draw permutes."""
        settings = self.pool.settings
        return settings.pool if run.draw == 0 else (settings.draw_pool or settings.pool)

    def of(self, run: Run) -> Sequence[int]:
        """Candidate pool rows of the run's shard, in order; without a curation, exactly its rows.
        Empty for a method with `corpus`."""
        if self.corpora.of(run) is not None:
            return []
        curation = self.curation(run)
        rows = curation.candidates(run.samples) if curation else run.samples
        if run.draw == 0:
            return range(rows)  # not a list: there may be billions
        if run.draw not in self._orders:
            seed = self.pool.settings.seed
            self._orders[run.draw] = pool_order(run.draw, self.pool_size(run), seed)
        return self._orders[run.draw][:rows]

    def parts(self, run: Run) -> list[int]:
        """Parts of the pool that contain these rows."""
        return self._parts(run.draw, self.of(run))

    def _parts(self, draw: int, rows: Sequence[int]) -> list[int]:
        size, key = self.pool.settings.part_size, ("parts", draw, len(rows))
        if key not in self._cache:
            first = range(-(-len(rows) // size))
            self._cache[key] = sorted({row // size for row in rows}) if draw else list(first)
        parts: list[int] = self._cache[key]
        return parts


class Curations(Part):
    """Rows that curations choose from a teacher's text."""

    def __init__(
        self, study: Study, runs: list[Run], text: Text, losses: Losses, rows: Rows
    ) -> None:
        super().__init__()
        self.study, self.runs, self.text, self.losses_of = study, runs, text, losses
        self.rows = rows

    @cached
    def settings(self, name: str) -> Any:
        """Settings of a curation that its rows depend on; the name alone for `raw`."""
        if name == RAW:
            return RAW
        dump = self.study.curations[name].model_dump(exclude={"surplus"}, exclude_none=True)
        return plain(dump)

    def spec(self, run: Run) -> Spec:
        """What the rows of a run depend on."""
        spec: Spec = {
            "text": self.text.spec(run.teacher),
            "curation": self.settings(run.curation),
            "draw": run.draw,
            "samples": run.samples,
        }
        if run.draw:
            spec["draw_pool"] = self.rows.pool_size(run)
        return spec

    def texts(self, run: Run) -> list[str]:
        """Text parts that the run's rows are chosen from."""
        return [self.text.part(run.teacher, "train", part) for part in self.rows.parts(run)]

    def donors(self, run: Run) -> list[str]:
        """The first part of the text, if a corruption takes answers from it; else none."""
        curation = self.rows.curation(run)
        replaced = curation and curation.corrupt and curation.corrupt.kind == "replace_response"
        return [self.text.part(run.teacher, "train", 0)] if replaced else []

    def losses(self, run: Run) -> list[str]:
        """Losses for a filter by loss, starting with the first part; none without such a filter."""
        curation = self.rows.curation(run)
        if curation is None or curation.teacher_loss is None:
            return []
        parts = sorted({0, *self.rows.parts(run)})
        return [self.losses_of.part(run.teacher, "train", part) for part in parts]

    def file(self, run: Run, kind: str = "text") -> str:
        """The rows that a curation keeps (`text`), or every row that it reads (`decisions`)."""
        folder = f"{results_folder(self.study)}/curated/{run.teacher}/{run.curation}"
        return f"{folder}/draw{run.draw}/n{run.samples}.{kind}.parquet"

    def decisions(self, run: Run) -> list[str]:
        """A curation's decision on each row of the run; none for `raw`."""
        return [self.file(run, "decisions")] if self.rows.curation(run) else []

    @cached_property
    def _curated(self) -> list[Run]:
        return [run for run in self.runs if run.samples and self.rows.curation(run)]

    @cached_property
    def all_decisions(self) -> list[str]:
        """Decisions of all curations of the study, each once."""
        return list(dict.fromkeys(self.file(run, "decisions") for run in self._curated))

    @cached_property
    def files(self) -> list[str]:
        """Rows that the study's curations keep, each file once."""
        return list(dict.fromkeys(self.file(run) for run in self._curated))


class Shards(Part):
    """Training data of runs, one file each."""

    def __init__(
        self,
        study: Study,
        runs: list[Run],
        pool: Pool,
        corpora: Corpora,
        rows: Rows,
        curations: Curations,
        targets: Targets,
        layers: Layers,
    ) -> None:
        super().__init__()
        self.study, self.runs, self.pool, self.corpora = study, runs, pool, corpora
        self.rows, self.curations = rows, curations
        self.targets_of, self.layers_of = targets, layers

    def spec(self, run: Run) -> Spec:
        """What a shard depends on."""
        if self.corpora.of(run) is not None:
            key = self.corpora.key(run.method, run.student)
            return self.corpora.shard_spec(key, run.draw, run.samples)
        spec = self.curations.spec(run)
        if run.cached != NO_CACHE:
            spec["cache"] = self.targets_of.full_spec(run.teacher, run.cache)
        return spec

    def file(self, run: Run) -> str:
        """The run's training data."""
        folder = f"{results_folder(self.study)}/shards"
        if self.corpora.of(run) is not None:
            folder = f"{folder}/corpus/{self.corpora.key(run.method, run.student)}"
        else:
            folder = f"{folder}/{run.teacher}/{run.curation}/{run.cached}"
        return f"{folder}/draw{run.draw}/n{run.samples}.parquet"

    def record(self, run: Run) -> str:
        """The record of a shard, beside it."""
        return self.file(run).removesuffix("parquet") + "json"

    def card(self, run: Run) -> str:
        """The data-set card of a shard's folder."""
        return str(Path(self.file(run)).parents[1] / "README.md")

    @cached_property
    def files(self) -> list[str]:
        """All shards of the run table, each once."""
        return list(dict.fromkeys(self.file(run) for run in self.runs if run.samples))

    def input(self, run: Run) -> list[str]:
        """The run's training data; none at n = 0."""
        return [self.file(run)] if run.samples else []

    def order(self, run: Run) -> Sequence[int]:
        """Pool rows of a shard, in order; none where a curation has put them in order."""
        return [] if self.rows.curation(run) else self.rows.of(run)

    def texts(self, run: Run) -> list[str]:
        """Text that holds the shard's rows."""
        curations = self.curations
        return [curations.file(run)] if self.rows.curation(run) else curations.texts(run)

    def targets(self, run: Run) -> list[str]:
        """Soft targets of the rows' parts, in the order of the parts; none without a cache."""
        if run.cached == NO_CACHE:
            return []
        parts = self.rows.parts(run)
        return [self.targets_of.part(run.teacher, run.cache, "train", part) for part in parts]

    def layers(self, run: Run) -> list[str]:
        """Stored layers of the rows' parts, in the order of the parts, if the cache has any."""
        if run.cached == NO_CACHE or self.study.caches[run.cache].hidden is None:
            return []
        parts = self.rows.parts(run)
        return [self.layers_of.part(run.teacher, run.cache, "train", part) for part in parts]

    def manifest(self, run: Run) -> list[str]:
        """Manifest of the run's cache, if it reads one."""
        if run.cached == NO_CACHE:
            return []
        return [self.targets_of.manifest(run.teacher, run.cache)]

    def card_records(self, teacher: str, curation: str, cache: str) -> list[str]:
        """Records of the shards of a folder, where its card says what a curation kept."""
        records = (
            self.record(run)
            for run in self.runs
            if run.samples
            and self.rows.curation(run)
            and (run.teacher, run.curation, run.cached) == (teacher, curation, cache)
        )
        return list(dict.fromkeys(records))

    def card_spec(self, teacher: str, curation: str, cache: str) -> Spec:
        """Facts for the data-set card of a folder."""
        spec = {"study": self.study.study, "teacher": teacher, "curation": curation, "cache": cache}
        return spec | ({"corpus": self.pool.corpus} if self.pool.corpus else {})
