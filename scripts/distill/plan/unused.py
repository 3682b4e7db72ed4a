"""Find results that no run of a study uses."""

from collections.abc import Iterable
from pathlib import Path

from distill.plan.keys import RESOURCES
from distill.plan.study import Plan


def _below(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_file() or path.is_symlink())


def unused_folders(plan: Plan) -> list[Path]:
    """Files and folders below the study's results that its config does not use."""
    students = Path(plan.results) / "students"
    run_folders = {students / run.folder for run in (*plan.runs, *plan.teachers.trained_runs)}
    present = {path.parent for path in students.rglob("training.json")}
    present |= {path.parent for path in students.rglob("metrics.json")}
    unused = sorted(present - run_folders)
    shards = Path(plan.results) / "shards"
    used = {Path(shard) for shard in plan.shards.files}
    used |= {Path(plan.shards.file(run)) for run in plan.teachers.trained_runs}
    unused += sorted(path for path in shards.rglob("n*.parquet") if path not in used)
    curated = Path(plan.results) / "curated"
    curations = {*plan.curations.all_decisions, *plan.curations.files}
    unused += sorted(path for path in curated.rglob("n*.parquet") if str(path) not in curations)
    unused += sorted(
        path
        for path in (Path(plan.results) / "efficiency").glob("*.json")
        if str(path) not in plan.efficiency.files
    )
    benchmarks = plan.benchmarks
    scores = {*benchmarks.files, *(benchmarks.prepared(task) for task in benchmarks.tasks)}
    unused += sorted(
        path
        for path in Path(plan.results).glob("**/benchmarks/*.json")
        if str(path) not in scores and not any(folder in path.parents for folder in unused)
    )
    return unused


def unused_resources(plans: Iterable[Plan]) -> list[Path]:
    """Files and folders below `resources` that none of the studies uses.

    Args:
        plans: The plans of all studies that share the folder.
    """
    used: set[Path] = set()
    for plan in plans:
        used |= {Path(RESOURCES, "models", key) for key in plan.sources.models}
        used |= {Path(RESOURCES, "data", key) for key in plan.sources.data}
        used.add(Path(plan.pool.folder))
        used |= {
            Path(RESOURCES, kind, key) for kind in ("text", "states") for key in plan.text.by_key
        }
        used |= {Path(RESOURCES, "served", key) for key in plan.served.by_key}
        used |= {Path(RESOURCES, "caches", *key) for key in plan.targets.by_key}
        used |= {Path(RESOURCES, "layers", *key) for key in plan.layers.by_key}
        used |= {Path(RESOURCES, "losses", *key) for key in plan.losses.by_key}
        used |= {Path(RESOURCES, "heads", f"{key}.safetensors") for key in plan.scorers.by_key}
        used |= {Path(RESOURCES, "students", key) for key in plan.students.by_key}
    present = [
        path
        for kind in Path(RESOURCES).glob("*")
        for path in kind.glob("*/*" if kind.name in ("caches", "layers", "losses") else "*")
    ]
    return sorted(path for path in present if path not in used)


def size_mb(path: Path) -> float:
    """Size of a file or folder in MB of 1024^2 bytes; links count nothing."""
    files = [path] if path.is_file() else list(_below(path))
    return sum(file.stat().st_size for file in files if not file.is_symlink()) / 1024**2
