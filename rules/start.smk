"""Checks before any job starts, the writer lock, and clean-up at the end."""

import os
from pathlib import Path

from distill.config.reading import check_yaml
from distill.core.errors import UserError
from distill.plan.limits import limits_of
from distill.plan.runs import run_of
from distill.runtime.job import WORKFLOW
from distill.workflow.hardware import check_fp16
from distill.workflow.restart import clear_resumes, is_locked, mend_files, take_lock
from distill.workflow.snakemake_state import check_times, killed_hints
from distill.workflow.startup import (
    check_array_gpus,
    check_array_limits,
    check_folders,
    check_image,
    check_start,
    load_study,
)

BASE = Path(workflow.basedir)
IMAGE = f"{BASE}/envs/container.sif"
OWN_TABLE = "runs_table" in config
DEPLOYMENT = [
    method.name.lower() for method in workflow.deployment_settings.deployment_method
]


def parse_table(settings):
    """Check the config of your own table; it needs pandas, other studies do not."""
    from distill.table.own_table import parse_table_study

    return parse_table_study(settings)


try:
    check_image(IMAGE, DEPLOYMENT)
    for file in workflow.overwrite_configfiles:
        check_yaml(file)
    PLAN = load_study(
        config,
        parse_table,
        starts_jobs=workflow.is_main_process,
        resources=workflow.global_resources,
    )
    if workflow.is_main_process:
        check_folders(PLAN, workflow.output_settings.dryrun)
except UserError as error:
    sys.exit(f"Error: {error}")

if workflow.is_main_process and workflow.output_settings.dryrun and not OWN_TABLE:
    sys.stderr.writelines(f"Will not be answered: {line}\n" for line in limits_of(PLAN))

RESULTS = PLAN.results
OUTPUTS = PLAN if OWN_TABLE else PLAN.outputs


LOCK = ".snakemake/writer.lock"
WAS_LOCKED = workflow.is_main_process and is_locked(LOCK)

# A job ends with the workflow that started it: no shell is in between, and it knows the process.
shell.prefix("exec ")
os.environ[WORKFLOW] = str(os.getpid())


onstart:
    for warning in (
        take_lock(LOCK, WAS_LOCKED),
        mend_files([RESULTS, "resources"]),
    ):
        sys.stderr.write(f"{warning}\n" if warning else "")
    try:
        if not OWN_TABLE:
            arrays = getattr(workflow.executor_settings, "array_jobs", None)
            check_array_gpus(arrays, PLAN)
            check_array_limits(
                arrays,
                workflow.resource_settings.nodes,
                workflow.global_resources["device"].value,
            )
            if workflow.local_exec:
                check_fp16(PLAN)
        check_start(PLAN, DEPLOYMENT)
    except UserError as error:
        sys.exit(f"Error: {error}")
    if not workflow.touch:
        check_times(newer_inputs())


def newer_inputs():
    """For each job that runs because inputs are newer, its outputs and these inputs."""
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
    text = "".join(Path(file).read_text(errors="replace") for file in log)
    for hint in killed_hints(text):
        sys.stderr.write(f"{hint}\n")
