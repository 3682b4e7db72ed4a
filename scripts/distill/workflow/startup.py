"""Checks before the first job: config, local files, packages, resource limits, stored specs.

`load_study` and `check_start` run all of them, for the workflow and for `distill check`.
"""

import importlib.util
import json
import os
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

from distill.config.checks.study import parse_study
from distill.config.own_table import TableStudy
from distill.config.study import raw_rows_needed
from distill.config.text import Corpus
from distill.core.errors import UserError
from distill.core.text_files import pick_fields, read_text_rows
from distill.plan.needed import needed_texts
from distill.plan.study import Plan
from distill.runtime.disk import check_writable
from distill.workflow.restart import check_file_times, source_files
from distill.workflow.snakemake_state import has_metadata

ENOUGH = 10_000
"""More jobs than a study has ready at once."""


def load_study(
    config: dict[str, Any],
    parse_table: Callable[[dict[str, Any]], TableStudy],
    *,
    starts_jobs: bool = True,
    resources: Mapping[str, Any] | None = None,
) -> Plan | TableStudy:
    """Check a config, the files that it names, and finished results.

    Args:
        config: As read from YAML; paths in it are relative to the working directory.
        parse_table: Checks the config of a table of one's own, and the table; it needs pandas,
            which is imported for such a study only.
        starts_jobs: False in the process of a job, which reads the config again: the checks that
            read files are left out.
        resources: Snakemake's limits of resources; None where Snakemake does not run.

    Returns:
        The study's plan, or the study of a table.

    Raises:
        UserError: One sentence per mistake.
    """
    if "runs_table" in config:
        check_table_reader()
        table = parse_table(config)
        check_file_times({"runs_table.path": [table.runs_table.path]})
        return table
    plan = Plan(parse_study(config))
    check_local_files(plan)
    if starts_jobs:
        check_cells(plan)
        check_row_counts(plan)
        check_reference(plan)
        check_corpora(plan)
        check_benchmarks(plan)
        if resources is not None:
            check_device_limit(resources)
        check_stored_specs(plan)
        check_file_times(source_files(plan))
        check_changed_files(plan)
    return plan


def check_folders(study: Plan | TableStudy, dry_run: bool = False) -> None:
    """Check that the folders that a run writes to can be written, as far as they exist.

    Raises:
        UserError: One cannot.
    """
    written = [] if dry_run else ["logs", "resources", "results", study.results]
    check_writable([".", ".snakemake", *written])  # Snakemake writes to these two in any case


def check_start(study: Plan | TableStudy, deployment: Container[str] = ()) -> None:
    """Check what jobs need beside files: packages, the benchmarks' harness, keys of servers.

    Args:
        study: Of `load_study`.
        deployment: Snakemake's methods of software deployment; with one, jobs bring packages.

    Raises:
        UserError: Something is missing.
    """
    environments = bool(deployment)
    if not environments:
        check_packages(isinstance(study, TableStudy))
    if not isinstance(study, TableStudy):
        check_harness(study, environments)
        check_server_keys(study)


def check_local_files(plan: Plan) -> None:
    """Check that local models and data that the study names exist.

    Raises:
        UserError: One does not.
    """
    for name, source in plan.study.sources.items():
        if source.path is None:
            continue
        path = Path(source.path)
        if source.is_data and not path.is_file():
            raise UserError(f"config: sources.{name}.path: the file {path} does not exist")
        if not source.is_data and not (path / "config.json").is_file():
            raise UserError(f"config: sources.{name}.path: {path} is no model directory (it holds no config.json)")  # fmt: skip  # noqa: E501


def check_cells(plan: Plan) -> None:
    """Check every row of local data sets: its columns, and that no cell that is needed is empty.

    Raises:
        UserError: A row is not as the study needs it; the sentence names file and row.
    """
    answered = {teacher.text for teacher in plan.study.teachers.values() if teacher.text}
    for name, source in plan.study.sources.items():
        if source.fields is None or source.path is None or source.path.endswith(".parquet"):
            continue
        filled = {"prompt"} | ({"response"} if name in answered else set())
        if source.begins is None:
            filled.add("text")
        for number, row in enumerate(read_text_rows(Path(source.path)), 1):
            pick_fields(row, number, source.fields, source.path, filled)


def check_row_counts(plan: Plan) -> None:
    """Check that a local data set of prompts is large enough for the pool and the held-out rows.

    Raises:
        UserError: It is too small, or malformed.
    """
    prompts = plan.pool.settings
    source = plan.study.sources.get(prompts.source) if plan.pool.asks else None
    if source is None or source.path is None or source.path.endswith(".parquet"):
        return
    rows, need = len(read_text_rows(Path(source.path))), raw_rows_needed(prompts)
    if rows < need:
        raise UserError(
            f"config: prompts.pool: {prompts.pool} training and "
            f"{prompts.test + prompts.validation} held-out prompts with surplus "
            f"{prompts.surplus:g} need {need} rows but {source.path} has {rows}; lower "
            "prompts.pool, test or surplus"
        )


def check_reference(plan: Plan) -> None:
    """Check that a local reference text has as many passages as are asked for.

    Raises:
        UserError: It has fewer, or is malformed.
    """
    reference = plan.study.evaluate.reference
    source = plan.study.sources[reference.source] if reference else None
    if reference is None or source is None or source.path is None or source.begins is not None:
        return
    if source.path.endswith(".parquet"):
        return
    if (rows := len(read_text_rows(Path(source.path)))) < reference.passages:
        raise UserError(
            f"config: evaluate.reference.passages: {reference.passages} are asked for but "
            f"{source.path} has {rows} rows; lower passages or give more text"
        )


def check_corpora(plan: Plan) -> None:
    """Check that local corpora are not too small for their largest shards, whatever the tokenizer.

    A token covers at least a byte, and each document ends with one more; where even so many tokens
    are too few, no shard could be built. (How many there are only the shard's own job can tell.)

    Raises:
        UserError: One is too small, or malformed.
    """
    reference = plan.study.evaluate.reference
    if plan.study.corpus is not None:
        _check_corpus(plan, plan.study.corpus)
    largest: dict[tuple[str, int], int] = {}
    for run in (*plan.runs, *plan.teachers.trained_runs):
        if name := plan.corpora.of(run):
            key = name, plan.study.method_of(run.method).corpus_tokens
            largest[key] = max(run.samples, largest.get(key, 0))
    for (name, tokens), samples in largest.items():
        source = plan.study.sources[name]
        if source.path is None or source.path.endswith(".parquet"):
            continue
        column = (source.fields or {})["text"]
        assert reference is not None
        rows = read_text_rows(Path(source.path))[reference.passages * (name == reference.source) :]
        texts = [row.get(column) if isinstance(row, dict) else None for row in rows]
        most = sum(len(text.encode()) + 1 for text in texts if isinstance(text, str))
        if most < samples * tokens:
            raise UserError(
                f"config: methods with corpus: {samples} samples of {tokens} tokens are asked for "
                f"but the {len(rows)} rows of {source.path} beyond the reference text have at most "
                f"{most} tokens; lower samples or corpus_tokens, or name a larger corpus"
            )


def check_benchmarks(plan: Plan) -> None:
    """Check that folders of benchmark tasks of one's own exist.

    Raises:
        UserError: One is missing.
    """
    benchmarks = plan.benchmarks
    for task in benchmarks.tasks:
        folder = benchmarks.defined[task].include
        if folder is not None and not benchmarks.task_files(task):
            raise UserError(
                f"config: evaluate.benchmarks.{task}.include: the folder {folder} is missing or "
                "empty; name the folder that holds the task's YAML file"
            )


def check_image(image: str, deployment: Container[str]) -> None:
    """Check that the image is there, where jobs are to run in one.

    Args:
        image: Its path.
        deployment: Snakemake's methods of software deployment that were asked for.

    Raises:
        UserError: It is missing, or its environments would not be used.
    """
    if "apptainer" not in deployment:
        return
    if "conda" not in deployment:
        raise UserError(
            "the image's packages are in its conda environments; say --software-deployment-method "
            "conda apptainer (docs/guide/cluster.md)"
        )
    if not Path(image).exists():
        raise UserError(
            f"the image {image} does not exist; build it with apptainer build envs/container.sif "
            "envs/container.def (docs/guide/cluster.md)"
        )


def check_packages(own_table: bool) -> None:
    """Check that jobs find what they compute with where they bring no environments of their own.

    Raises:
        UserError: Something is missing.
    """
    names = ("scipy", "matplotlib") if own_table else ("torch", "transformers", "scipy")
    if missing := [name for name in names if importlib.util.find_spec(name) is None]:
        raise UserError(
            f"{' and '.join(missing)} cannot be imported by Snakemake's Python; run pip "
            "install -r envs/requirements.txt, or add --use-conda"
        )


def check_harness(plan: Plan, environments: bool) -> None:
    """Check that the harness is installed where scores are to be taken that are not there yet.

    Args:
        plan: The study's plan.
        environments: Whether each rule brings its own environment (conda).

    Raises:
        UserError: It is missing.
    """
    if environments or all(_holds(*record) for record in plan.benchmarks.stored_specs()):
        return
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError(
            "config: evaluate.benchmarks needs lm-evaluation-harness, which is not installed"
            " here; run pip install -r envs/requirements-harness.txt, or add --use-conda"
        )


def check_table_reader() -> None:
    """Check that a table of one's own can be read; Snakemake alone brings no pandas.

    Raises:
        UserError: It cannot.
    """
    if missing := [name for name in ("pandas", "pyarrow") if not importlib.util.find_spec(name)]:
        raise UserError(
            "config: runs_table is checked before the first job, by Snakemake's own Python, and "
            f"{' and '.join(missing)} is not installed there; run pip install {' '.join(missing)} "
            "(envs/requirements.txt names versions)"
        )


def check_server_keys(plan: Plan) -> None:
    """Check, where answers of a server are still to be asked for, that its API key is at hand.

    Raises:
        UserError: The environment variable that the config names is not set.
    """
    for teacher, split, part in needed_texts(plan):
        server = plan.study.teachers[teacher].server
        if server is None or Path(plan.served.part(teacher, split, part)).is_file():
            continue
        if server.key_variable is not None and not os.environ.get(server.key_variable):
            raise UserError(
                f"config: teachers.{teacher}.server.key_variable: the environment variable "
                f"{server.key_variable} is not set; export the API key in it"
            )


def _check_corpus(plan: Plan, corpus: Corpus) -> None:
    """The same of the corpus that a whole study learns."""
    need: dict[str, int] = {}
    for name, chunks in (
        (corpus.source, corpus.pool),
        (corpus.test_source or corpus.source, corpus.test),
        (corpus.validation_source or corpus.source, corpus.validation),
    ):
        need[name] = need.get(name, 0) + chunks
    for name, chunks in need.items():
        source = plan.study.sources[name]
        if source.path is None or source.path.endswith(".parquet"):
            continue
        column = (source.fields or {})["text"]
        rows = read_text_rows(Path(source.path))
        texts = [row.get(column) if isinstance(row, dict) else None for row in rows]
        most = sum(len(text.encode()) + 1 for text in texts if isinstance(text, str))
        if most < chunks * corpus.length:
            raise UserError(
                f"config: corpus: {chunks} chunks of {corpus.length} tokens are asked for (pool, "
                f"test and validation) but the text of {source.path} has at most {most} tokens; "
                "lower pool or length, or name a larger corpus"
            )


def check_device_limit(resources: Mapping[str, Any]) -> None:
    """Check that `device` is limited, as timing excludes nothing without it.

    Raises:
        UserError: It is not.
    """
    if "device" not in resources:
        raise UserError(
            "no limit of the resource device is set, so nothing would be timed alone; run from the "
            "project's directory (its profile sets it) or add --resources device=4"
        )


def check_array_gpus(arrays: str | None, plan: Plan) -> None:
    """Check that the jobs of an array ask for equally many GPUs: all get what its first one asks.

    Args:
        arrays: The rules whose jobs go out as arrays.
        plan: The study's plan.

    Raises:
        UserError: Teachers are spread over different numbers of GPUs.
    """
    names = [name for name in plan.study.teachers if plan.teachers.has_model(name)]
    gpus = {name: plan.teachers.gpus(name) for name in names}
    if arrays and len(set(gpus.values())) > 1:
        told = ", ".join(f"{name} {number}" for name, number in gpus.items())
        raise UserError(
            f"config: teachers: their gpus differ ({told}), and all jobs of an array get "
            'those of its first one; send no arrays: --slurm-array-jobs ""'
        )


def check_array_limits(arrays: str | None, jobs: int | None, devices: int) -> None:
    """Check that no limit leaves jobs out of an array: SLURM's executor would forget them.

    Args:
        arrays: The rules whose jobs go out as arrays.
        jobs: How many jobs may be in the queue at once.
        devices: The limit of the resource `device`.

    Raises:
        UserError: One of both limits is low.
    """
    for name, limit in (("jobs", jobs), ("resources device", devices)):
        if arrays and limit is not None and limit < ENOUGH:
            raise UserError(
                f"{name} is limited to {limit}, and what this keeps out of an array is "
                f'never submitted; set it to {ENOUGH}, or send no arrays: slurm-array-jobs: ""'
            )


def _holds(path: str, spec: dict[str, Any]) -> bool:
    """Whether a record is there, whole, and was made with these settings."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.get("spec") == json.loads(json.dumps(spec))


def check_stored_specs(plan: Plan) -> None:
    """Compare the spec in each finished record with the study's.

    Where Snakemake remembers how a file was made, it reruns what changed. Results that were copied
    without that memory (`.snakemake/metadata`) would be taken as they are: a mismatch is an error.

    Raises:
        UserError: A result was made with other settings and Snakemake would not notice.
    """
    stale = []
    for path, spec in (*plan.outputs.stored_specs(), *plan.benchmarks.stored_specs()):
        if Path(path).is_file() and not has_metadata(path) and not _holds(path, spec):
            stale.append(path)
    if stale:
        more = f" and {len(stale) - 1} more" if len(stale) > 1 else ""
        raise UserError(
            f"{stale[0]}{more} was made with other settings than the study's, and .snakemake/"
            "metadata, which would tell Snakemake so, was not copied with it; copy that too, or "
            f"delete {Path(stale[0]).parent}, or restore the settings"
        )


def _newer(source: Path, made: Path) -> bool:
    return source.is_file() and made.is_file() and source.stat().st_mtime > made.stat().st_mtime


def check_changed_files(plan: Plan) -> None:
    """Read what is newer than the student or the record made from it, before those are removed.

    Snakemake removes the outputs of a job before it starts: a damaged file, which also looks
    newer, would else cost what was made from it while it was whole.

    Raises:
        UserError: Such a file is damaged.
    """
    shards, models = set[Path](), set[Path]()
    for run in (*plan.runs, *plan.teachers.trained_runs):
        model = Path(plan.training.file(run, "model.safetensors"))
        if run.samples and _newer(Path(plan.shards.file(run)), model):
            shards.add(Path(plan.shards.file(run)))
        if _newer(model, model.with_name("metrics.json")):
            models.add(model.parent)
    if shards or models:  # rarely: the imports take as long as all other checks
        from distill.core.checksums import check_files
        from distill.core.parquet import check_table

        for shard in sorted(shards):
            check_table(shard)
        for folder in sorted(models):
            check_files(folder)
