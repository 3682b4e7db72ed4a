"""Sources of a study: the models and the data that it fetches."""

from functools import cached_property
from pathlib import Path

from distill.config.study import Study
from distill.core import model_files
from distill.core.keys import digest, slug
from distill.plan.keys import RESOURCES, Part, Spec, cached, plain


class Sources(Part):
    """Paths of models and data, and what their files depend on."""

    def __init__(self, study: Study) -> None:
        super().__init__()
        self.study = study

    @cached
    def spec(self, name: str) -> Spec:
        """What a source's files depend on."""
        spec: Spec = plain(self.study.source_spec(name))
        base = self.study.sources[name].base
        return spec | ({"base": self.spec(base)} if base else {})

    @cached
    def key(self, name: str) -> str:
        """Folder name of a source's files: readable, and unique to its spec."""
        source = self.study.sources[name]
        templates = "templates" if source.templates else ""
        origin = source.wheel or source.hub or templates or Path(source.path or "").name
        return f"{slug(origin)}-{digest(self.spec(name))}"

    @cached_property
    def models(self) -> dict[str, str]:
        """Source name of each model, by key."""
        teachers = self.study.teachers.values()
        names = [teacher.source for teacher in teachers if teacher.source]
        names += [student.source for student in self.study.students.values()]
        names += [teacher.text_tokenizer for teacher in teachers if teacher.text_tokenizer]
        names += [self.study.corpus.tokenizer] if self.study.corpus else []
        for name in names:  # grows: the base model of an adapter may be an adapter again
            base = self.study.sources[name].base
            names += [base] if base and base not in names else []
        return {self.key(name): name for name in names}

    @cached_property
    def data(self) -> dict[str, str]:
        """Source name of each data set, by key."""
        names = [name for name, source in self.study.sources.items() if source.is_data]
        return {self.key(name): name for name in names}

    @cached
    def manifest(self, name: str) -> str:
        """The manifest of a fetched model, beside its files."""
        return f"{RESOURCES}/models/{self.key(name)}/manifest.json"

    def base(self, name: str) -> list[str]:
        """The manifest of an adapter's base model, if the source names one."""
        base = self.study.sources[name].base
        return [self.manifest(base)] if base else []

    @cached
    def rows(self, name: str) -> str:
        """A data set's rows."""
        return f"{RESOURCES}/data/{self.key(name)}/rows.parquet"

    @property
    def reference(self) -> list[str]:
        """Rows of the reference text's data set, if the study has one."""
        entry = self.study.evaluate.reference
        return [self.rows(entry.source)] if entry else []

    @cached
    def local_files(self, name: str) -> list[str]:
        """Local files that a source reads, so that a changed file is noticed."""
        source = self.study.sources[name]
        if source.path is None:
            return []
        if source.is_data:
            from distill.core.rows.files import data_files

            return [str(file) for file in data_files(source.path, source.split)]
        return sorted(map(str, model_files.local_files(Path(source.path))))
