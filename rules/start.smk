"""Before the first job: config, files and results are checked and the lock is taken; then the end."""

import os
from pathlib import Path

from distill.config.checks.checks import parse_study
from distill.workflow.snakemake_state import check_times
from distill.runtime.disk import check_writable
from distill.core.errors import UserError
from distill.runtime.job import WORKFLOW
from distill.workflow.snakemake_state import killed_hints
from distill.plan.runs import run_of
from distill.plan.study import Plan
from distill.workflow.restart import (
    check_file_times,
    clear_resumes,
    is_locked,
    mend_files,
    source_files,
    take_lock,
)
from distill.workflow.startup import (
    check_array_gpus,
    check_array_limits,
    check_benchmarks,
    check_cells,
    check_changed_files,
    check_corpora,
    check_device_limit,
    check_harness,
    check_image,
    check_local_files,
    check_packages,
    check_reference,
    check_row_counts,
    check_server_keys,
    check_stored_specs,
    check_table_reader,
)
from distill.config.reading import check_yaml

BASE = Path(workflow.basedir)
IMAGE = f"{BASE}/envs/container.sif"
OWN_TABLE = "runs_table" in config
DEPLOYMENT = [
    method.name.lower() for method in workflow.deployment_settings.deployment_method
]


def load_study():
    """Check config, files and finished results; a mistake ends the run with its sentence."""
    try:
        check_image(IMAGE, DEPLOYMENT)
        for file in workflow.overwrite_configfiles:
            check_yaml(file)
        if OWN_TABLE:
            check_table_reader()
            from distill.table.own_table import parse_table_study

            study = parse_table_study(config)
            check_file_times({"runs_table.path": [study.runs_table.path]})
            return study
        plan = Plan(parse_study(config))
        check_local_files(plan)
        if workflow.is_main_process:
            check_cells(plan)
            check_row_counts(plan)
            check_reference(plan)
            check_corpora(plan)
            check_benchmarks(plan)
            check_device_limit(workflow.global_resources)
            check_stored_specs(plan)
            check_file_times(source_files(plan))
            check_changed_files(plan)
        return plan
    except UserError as error:
        sys.exit(f"Error: {error}")


PLAN = load_study()
RESULTS = PLAN.results
OUTPUTS = PLAN if OWN_TABLE else PLAN.outputs

if workflow.is_main_process:
    # Snakemake itself writes to the first two even in a dry run.
    written = ["logs", "resources", "results", RESULTS]
    written = [] if workflow.output_settings.dryrun else written
    check_writable([".", ".snakemake", *written])


LOCK = ".snakemake/writer.lock"
WAS_LOCKED = workflow.is_main_process and is_locked(LOCK)

# Jobs end with the workflow that started them: no shell stands between, and each knows its process.
shell.prefix("exec ")
os.environ[WORKFLOW] = str(os.getpid())


onstart:
    for told in (
        take_lock(LOCK, WAS_LOCKED),
        mend_files([RESULTS, "resources"]),
    ):
        sys.stderr.write(f"{told}\n" if told else "")
    if not DEPLOYMENT:
        check_packages(OWN_TABLE)
    if not OWN_TABLE:
        arrays = getattr(workflow.executor_settings, "array_jobs", None)
        check_array_gpus(arrays, PLAN)
        check_array_limits(
            arrays,
            workflow.resource_settings.nodes,
            workflow.global_resources["device"].value,
        )
        check_harness(PLAN, bool(DEPLOYMENT))
        check_server_keys(PLAN)
    if not workflow.touch:
        check_times(newer_inputs())


def newer_inputs():
    """For each job that runs for its inputs' times, its outputs and the inputs that are newer."""
    for job in workflow.dag.needrun_jobs():
        reason = workflow.dag.reason(job)
        if not (reason.forced or reason.incomplete_output):
            yield job.output, reason.updated_input - reason.updated_input_run


onsuccess:
    if not OWN_TABLE:
        clear_resumes(PLAN)


onerror:
    if not OWN_TABLE:
        clear_resumes(PLAN)
    told = "".join(Path(file).read_text(errors="replace") for file in log)
    for hint in killed_hints(told):
        sys.stderr.write(f"{hint}\n")
