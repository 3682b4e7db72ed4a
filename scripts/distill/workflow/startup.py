"""Checks before any job starts: config, local files, packages, resource limits, stored specs.

`load_study` and `check_start` run them for the workflow and for `distill check`.
"""

import importlib.util
import json
import os
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.config.checks.sections import too_few_rows
from distill.config.checks.study import parse_study
from distill.config.own_table import TableStudy
from distill.config.row_counts import known_rows, least_rows
from distill.config.text import Corpus
from distill.contracts.instructions import least_words, read_ifeval
from distill.core.errors import UserError
from distill.core.model_files import check_local_model
from distill.plan.needed import needed_texts
from distill.plan.study import Plan
from distill.runtime.disk import check_writable
from distill.workflow.local_models import check_models
from distill.workflow.restart import check_file_times, source_files
from distill.workflow.snakemake_state import has_metadata

if TYPE_CHECKING:  # the reader of rows is imported only where there are rows
    from distill.core.rows.survey import Survey

ENOUGH = 10_000
"""More jobs than a study ever has ready at the same time."""


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
        parse_table: Checks a config with `runs_table` and the table itself. A parameter, because
            its module imports pandas.
        starts_jobs: False in the process of a job, which reads the config again; then the checks
            that read files are skipped.
        resources: Snakemake's resource limits; None without Snakemake.

    Returns:
        The study's plan, or the study of the user's own table.

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
        check_instructions(plan)
        check_models(plan)
        if resources is not None:
            check_device_limit(resources)
        check_stored_specs(plan)
        check_file_times(source_files(plan))
        check_changed_files(plan)
    return plan


def check_folders(study: Plan | TableStudy, dry_run: bool = False) -> None:
    """Check that existing output folders are writable.

    Raises:
        UserError: A folder is not.
    """
    written = [] if dry_run else ["logs", "resources", "results", study.results]
    check_writable([".", ".snakemake", *written])  # Snakemake writes to these two in any case


def check_start(study: Plan | TableStudy, deployment: Container[str] = ()) -> None:
    """Check what jobs need besides files: packages, the benchmark harness, API keys.

    Args:
        study: The result of `load_study`.
        deployment: Snakemake's software deployment methods; with one, jobs bring their packages.

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
    """Check that the local models and data of the study exist.

    Raises:
        UserError: One is missing.
    """
    for name, source in plan.study.sources.items():
        if source.path is None:
            continue
        path = Path(source.path)
        if source.is_data:
            from distill.core.rows.files import data_files
            from distill.core.rows.survey import named

            with named(name):
                data_files(path, source.split)
        if not source.is_data:
            try:
                check_local_model(path)
            except UserError as error:
                raise UserError(f"config: sources.{name}.path: {error}") from None


def _survey(plan: Plan, name: str) -> "Survey | None":
    """Numbers of a source's local data; None without any, or if a job alone can read them."""
    study = plan.study
    if study.sources[name].path is None:
        return None
    from distill.core.rows.survey import survey

    reference = study.evaluate.reference
    passages = reference.passages if reference and reference.source == name else 0
    return survey(study.source_spec(name), passages)


def check_cells(plan: Plan) -> None:
    """Read local data sets: every row has its fields, and enough rows are filled.

    Raises:
        UserError: A row has a mistake; the sentence names file and row.
    """
    for name, source in plan.study.sources.items():
        if source.is_data:
            _survey(plan, name)


def rows_left_out(plan: Plan) -> dict[str, dict[str, Any]]:
    """Numbers of rows of local data sets that lack a field, by source: `read` and `left_out`."""
    counts = {}
    for name, source in plan.study.sources.items():
        numbers = _survey(plan, name) if source.is_data else None
        if numbers is not None and numbers.left_out:
            counts[name] = {"read": numbers.read, "left_out": numbers.left_out}
    return counts


def check_row_counts(plan: Plan) -> None:
    """Check that a local data set of prompts is large enough for the pool and the held-out rows.

    Raises:
        UserError: It is too small, too few prompts are short enough, too many are equal, or they
            are chats and the template has no place for them.
    """
    prompts = plan.pool.settings
    source = plan.study.sources.get(prompts.source) if plan.pool.asks else None
    if source is None or source.path is None:
        return
    numbers = _survey(plan, prompts.source)
    if numbers is not None and numbers.systems + numbers.chats and prompts.template != "chat":
        what, which = "several turns", numbers.chats
        if not which:
            what, which = "a system text", numbers.systems
        raise UserError(
            f"config: prompts.template: {which} rows of {source.path} have {what}, for which only "
            "the chat template has a place; set it to chat, or name a column with a single prompt "
            f"under sources.{prompts.source}.fields"
        )
    need, known = least_rows(prompts), known_rows(plan.study, prompts.source, prompts.max_tokens)
    if known is None:  # the jobs have the packages that read the files
        return
    if known.total < need:
        raise UserError(f"config: {too_few_rows(prompts, source.path, known.total)}")
    if known.fitting < need:
        raise UserError(
            f"config: prompts.max_tokens: {need} prompts are needed, but only {known.fitting} of "
            f"{known.total} rows of {source.path} have at most {prompts.max_tokens} tokens "
            "(estimated); raise max_tokens, or lower prompts.pool or test"
        )
    if known.distinct < need:
        raise UserError(
            f"config: prompts.pool: {need} prompts are needed, but only {known.distinct} of the "
            f"{known.total} prompts of {source.path} differ; lower prompts.pool or test, or give "
            "more different prompts"
        )


def check_reference(plan: Plan) -> None:
    """Check that a local reference text has the configured number of passages.

    Raises:
        UserError: It has fewer, or is malformed.
    """
    reference = plan.study.evaluate.reference
    source = plan.study.sources[reference.source] if reference else None
    if reference is None or source is None or source.begins is not None:
        return
    numbers = _survey(plan, reference.source)
    if numbers is not None and numbers.usable < reference.passages:
        raise UserError(
            f"config: evaluate.reference.passages is {reference.passages}, but {source.path} has "
            f"{numbers.usable} rows; lower passages or give more text"
        )


def check_corpora(plan: Plan) -> None:
    """Check that local corpora are large enough for their largest shards.

    The check uses an upper bound on the number of tokens: one per byte, and one at the end of each
    document. The exact number is known only after tokenisation, in the shard's job.

    Raises:
        UserError: A corpus is too small, or malformed.
    """
    if plan.study.corpus is not None:
        _check_corpus(plan, plan.study.corpus)
    largest: dict[tuple[str, int], int] = {}
    for run in (*plan.runs, *plan.teachers.trained_runs):
        if name := plan.corpora.of(run):
            key = name, plan.study.method_of(run.method).corpus_tokens
            largest[key] = max(run.samples, largest.get(key, 0))
    for (name, tokens), samples in largest.items():
        if (numbers := _survey(plan, name)) is None:
            continue
        most = numbers.bytes - numbers.bytes_before
        if most < samples * tokens:
            raise UserError(
                f"config: methods with corpus: {samples} samples of {tokens} tokens are needed, "
                f"but the rows of {plan.study.sources[name].path} after the reference text have at "
                f"most {most} tokens; lower samples or corpus_tokens, or name a larger corpus"
            )


def check_instructions(plan: Plan) -> None:
    """Check a file of the study's own instructions.

    Raises:
        UserError: It is missing or malformed, has too few instructions, or one whose right answers
            are longer than the limit.
    """
    own, limit = plan.study.evaluate.instructions, plan.study.evaluate.instruction_tokens
    if own is None or own.path is None:
        return
    key = "config: evaluate.instructions"
    if not Path(own.path).is_file():
        raise UserError(f"{key}.path: {own.path} is not a file; name one of JSON lines")
    items = read_ifeval(own.path)
    if len(items) < own.published + own.more:
        raise UserError(
            f"{key}: {own.path} has {len(items)} instructions, but published is {own.published} "
            f"and more is {own.more}; lower them, or give more instructions"
        )
    for item in items[: own.published + own.more]:
        if (words := least_words(item)) > limit:
            raise UserError(
                f"{key}: {item.id} of {own.path} asks for at least {words} words, but "
                f"evaluate.instruction_tokens is {limit}; raise it, or leave that line out"
            )


def check_benchmarks(plan: Plan) -> None:
    """Check that the folders of your own benchmark tasks exist.

    Raises:
        UserError: One is missing or empty.
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
    """Check that the container image exists, if jobs run in one.

    Args:
        image: Path of the image.
        deployment: The chosen software deployment methods of Snakemake.

    Raises:
        UserError: The image is missing, or jobs would not use its environments.
    """
    if "apptainer" not in deployment:
        return
    if "conda" not in deployment:
        raise UserError(
            "the image's packages are in its conda environments; use --software-deployment-method "
            "conda apptainer (docs/guide/cluster.md)"
        )
    if not Path(image).exists():
        raise UserError(
            f"the image {image} does not exist; build it with apptainer build envs/container.sif "
            "envs/container.def (docs/guide/cluster.md)"
        )


def check_packages(own_table: bool) -> None:
    """Check that this environment has the packages of jobs that run in it.

    Raises:
        UserError: A package is missing.
    """
    names = ("scipy", "matplotlib") if own_table else ("torch", "transformers", "scipy")
    if missing := [name for name in names if importlib.util.find_spec(name) is None]:
        raise UserError(
            f"{' and '.join(missing)} cannot be imported by Snakemake's Python; run pip "
            "install -r envs/requirements.txt, or add --use-conda"
        )


def check_harness(plan: Plan, environments: bool) -> None:
    """Check that lm-evaluation-harness is installed if benchmark scores are missing.

    Args:
        plan: The study's plan.
        environments: Whether each rule has its own environment (conda).

    Raises:
        UserError: The harness is missing.
    """
    if environments or all(_holds(*record) for record in plan.benchmarks.stored_specs()):
        return
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError(
            "config: evaluate.benchmarks needs lm-evaluation-harness, which is not installed"
            " here; run pip install -r envs/requirements-harness.txt, or add --use-conda"
        )


def check_table_reader() -> None:
    """Check that the packages that read your own table are installed; Snakemake needs neither.

    Raises:
        UserError: A package is missing.
    """
    if missing := [name for name in ("pandas", "pyarrow") if not importlib.util.find_spec(name)]:
        raise UserError(
            "config: Snakemake's Python checks runs_table before any job starts, but it does not "
            f"have {' and '.join(missing)}; run pip install {' '.join(missing)} "
            "(envs/requirements.txt lists versions)"
        )


def check_server_keys(plan: Plan) -> None:
    """Check that the API keys of servers with missing answers are set.

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
    """The same check for the corpus of a study."""
    need: dict[str, int] = {}
    for name, chunks in (
        (corpus.source, corpus.pool),
        (corpus.test_source or corpus.source, corpus.test),
        (corpus.validation_source or corpus.source, corpus.validation),
    ):
        need[name] = need.get(name, 0) + chunks
    for name, chunks in need.items():
        numbers = _survey(plan, name)
        if numbers is not None and numbers.bytes < chunks * corpus.length:
            raise UserError(
                f"config: corpus: {chunks} chunks of {corpus.length} tokens are needed (pool, test "
                f"and validation), but the text of {plan.study.sources[name].path} has at most "
                f"{numbers.bytes} tokens; lower pool or length, or name a larger corpus"
            )


def check_device_limit(resources: Mapping[str, Any]) -> None:
    """Check that the resource `device` has a limit; without one, timing jobs do not run alone.

    Raises:
        UserError: It has none.
    """
    if "device" not in resources:
        raise UserError(
            "the resource device has no limit, so timing jobs would not run alone; run from the "
            "project's directory (its profile sets it) or add --resources device=4"
        )


def check_array_gpus(arrays: str | None, plan: Plan) -> None:
    """Check that the jobs of an array need equally many GPUs: all get those of its first job.

    Args:
        arrays: The rules whose jobs are submitted as arrays.
        plan: The study's plan.

    Raises:
        UserError: Teachers have different numbers of GPUs.
    """
    names = [name for name in plan.study.teachers if plan.teachers.has_model(name)]
    gpus = {name: plan.teachers.gpus(name) for name in names}
    if arrays and len(set(gpus.values())) > 1:
        numbers = ", ".join(f"{name} {number}" for name, number in gpus.items())
        raise UserError(
            f"config: teachers: their gpus differ ({numbers}), but all jobs of an array get the "
            'GPUs of its first job; turn arrays off: --slurm-array-jobs ""'
        )


def check_array_limits(arrays: str | None, jobs: int | None, devices: int) -> None:
    """Check that no limit leaves jobs out of an array: the SLURM executor never submits those.

    Args:
        arrays: The rules whose jobs are submitted as arrays.
        jobs: Largest number of jobs in the queue.
        devices: Limit of the resource `device`.

    Raises:
        UserError: A limit is below ENOUGH.
    """
    for name, limit in (("jobs", jobs), ("resources device", devices)):
        if arrays and limit is not None and limit < ENOUGH:
            raise UserError(
                f"{name} is limited to {limit}, and jobs that this leaves out of an array are "
                f'never submitted; set it to {ENOUGH}, or turn arrays off: slurm-array-jobs: ""'
            )


def _holds(path: str, spec: dict[str, Any]) -> bool:
    """Whether a record exists, is valid JSON, and has this spec."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and record.get("spec") == json.loads(json.dumps(spec))


def check_stored_specs(plan: Plan) -> None:
    """Compare the spec in each finished record with the study's.

    Snakemake reruns what changed if it has metadata on a file. For results copied without
    `.snakemake/metadata` it cannot notice a change, so a mismatch is an error.

    Raises:
        UserError: A result has other settings, and Snakemake would not notice.
    """
    stale = []
    for path, spec in (*plan.outputs.stored_specs(), *plan.benchmarks.stored_specs()):
        if Path(path).is_file() and not has_metadata(path) and not _holds(path, spec):
            stale.append(path)
    if stale:
        more = f" and {len(stale) - 1} more" if len(stale) > 1 else ""
        raise UserError(
            f"{stale[0]}{more} has other settings than the study, and Snakemake cannot notice it "
            "because .snakemake/metadata was not copied too; copy that folder, or "
            f"delete {Path(stale[0]).parent}, or restore the settings"
        )


def _newer(source: Path, result: Path) -> bool:
    both = source.is_file() and result.is_file()
    return both and source.stat().st_mtime > result.stat().st_mtime


def check_changed_files(plan: Plan) -> None:
    """Check shards and models that are newer than the results made from them.

    Snakemake deletes the outputs of a job before it starts. Without this check, a damaged input,
    which also looks newer, would cost the valid results.

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
    if shards or models:  # rare, so the slow imports are here
        from distill.core.checksums import check_files
        from distill.core.parquet import check_table

        for shard in sorted(shards):
            check_table(shard)
        for folder in sorted(models):
            check_files(folder)
