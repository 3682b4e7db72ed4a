"""`distill check`: everything that a run checks before its first job."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.cli.command import Command, Outcome, add_json, count
from distill.cli.studies import CONFIG, add_directory, project, read_config, working_in

if TYPE_CHECKING:
    from distill.config.own_table import TableStudy
    from distill.plan.study import Plan


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", metavar="CONFIG", nargs="?", default=CONFIG, help="default: %(default)s"
    )
    parser.add_argument(
        "--deployment",
        action="append",
        choices=("conda", "apptainer"),
        default=[],
        help="as snakemake --software-deployment-method; once for each method",
    )
    add_directory(parser)
    add_json(parser)


def parse_table(config: dict[str, Any]) -> "TableStudy":
    """Check the config of your own table, and the table."""
    from distill.table.own_table import parse_table_study

    return parse_table_study(config)


def _run(options: argparse.Namespace) -> Outcome:
    from distill.cli.prompt_lengths import prompt_length_notes
    from distill.cli.tokenizers import check_tokenizers
    from distill.config.own_table import TableStudy
    from distill.workflow.startup import check_folders, check_image, check_start, load_study

    with working_in(options.directory, [options.config]) as (path,):
        image = project() / "envs" / "container.sif"
        check_image(str(image), options.deployment)
        study = load_study(read_config(path), parse_table)
        check_folders(study)
        check_start(study, options.deployment)
        own, notes = isinstance(study, TableStudy), list[str]()
        if not isinstance(study, TableStudy):
            check_tokenizers(study)
            notes = prompt_length_notes(study)
        facts = _table_facts(study) if isinstance(study, TableStudy) else _facts(study)
        record = {
            "schema": 1,
            "config": str(path),
            "directory": str(Path.cwd()),
            "study": study.results.partition("/")[2],
            "task": "table" if own else study.study.task,  # type: ignore[union-attr]
            "results": study.results,
            **facts,
            **({"warnings": notes} if notes else {}),
        }
    return Outcome(record, _text(record))


def _table_facts(study: "TableStudy") -> dict[str, Any]:
    """What was read, and what a reader must know of it."""
    from distill.answers.own_table import reading_answers
    from distill.answers.wording import worded, wording_of
    from distill.table.own_table import points_of_table

    table = points_of_table(study)
    notes = reading_answers({"notes": [note.record() for note in table.notes]})
    wording = wording_of(project() / "report/answers", True, table.distils)
    return {
        "table": study.runs_table.path,
        "runs": len(table.points),
        "notes": [record["answer"] for record in worded(notes, wording)],
    }


def _facts(plan: "Plan") -> dict[str, Any]:
    """What a study is: names, numbers of runs and of the jobs that take longest, and its limits."""
    from distill.plan.limits import limits_of
    from distill.plan.needed import needed_runs, needed_searches, needed_texts
    from distill.workflow.startup import rows_left_out

    trained = [run for run in needed_runs(plan) if run.samples]
    measured = [Path(plan.training.file(run, "metrics.json")) for run in plan.runs]
    return {
        "runs": len(plan.runs),
        "evaluated": sum(path.is_file() for path in measured),
        "students": list(dict.fromkeys(run.student for run in plan.runs)),
        "teachers": list(dict.fromkeys(run.teacher for run in plan.runs)),
        "methods": list(dict.fromkeys(run.method for run in trained)),
        "samples": sorted({run.samples for run in plan.runs}),
        "jobs": {
            "teacher text": len(needed_texts(plan)),
            "search": len(needed_searches(plan)),
            "training": len(trained),
            "evaluation": len(plan.runs),
            "benchmark": len(plan.benchmarks.files),
        },
        "left_out": rows_left_out(plan),
        "limits": limits_of(plan),
    }


def _text(record: dict[str, Any]) -> str:
    lines = [f"{record['config']}: no mistakes. Study {record['study']}, task {record['task']}."]
    if record["task"] == "table":
        lines.append(f"  table     {record['table']}, {count(record['runs'], 'run')}")
    else:
        runs = f"{count(record['runs'], 'run')}, {record['evaluated']} evaluated already"
        jobs = ", ".join(f"{number:,} {kind}" for kind, number in record["jobs"].items() if number)
        sizes = ", ".join(f"{size:,}" for size in record["samples"])
        lines += [f"  runs      {runs}", f"  samples   {sizes}"]
        lines += [f"  {key:<8}  {', '.join(record[key])}" for key in ("students", "teachers")]
        lines += [f"  methods   {', '.join(record['methods']) or 'none'}", f"  jobs      {jobs}"]
    for name, counts in record.get("left_out", {}).items():
        lacking = ", ".join(f"{many} without {what}" for what, many in counts["left_out"].items())
        lines.append(f"  left out  {lacking} of {count(counts['read'], 'row')} of {name}")
    lines.append(f"  results   {record['results']} (in {record['directory']})")
    if reading := record.get("notes"):
        lines += ["How the table was read:", *(f"  - {line}" for line in reading)]
    if warnings := record.get("warnings"):
        lines += ["What may stop it:", *(f"  - {line}" for line in warnings)]
    if limits := record.get("limits"):
        lines += ["What it will not answer:", *(f"  - {line}" for line in limits)]
    return "\n".join(lines)


COMMAND = Command(
    summary="check a study before its first job",
    details="Check all that a run checks before its first job: the YAML, every key and name, local "
    "files and each of their rows, numbers of rows, local models and their tokenizers, finished "
    "results, packages, keys of servers, and that folders can be written; and say what the study "
    "will not answer. Limits that only Snakemake's options set are not checked.",
    examples=("distill check", "distill check my_study.yaml", "distill check my_study.yaml --json"),
    add_options=_add_options,
    run=_run,
)
