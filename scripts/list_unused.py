"""List (and with --delete remove) results that no run of the given configs refers to.

    python scripts/list_unused.py [--configfile FILE ...] [--delete]

Work in resources/ is shared between studies: name all the configs whose work is to stay.
"""

import argparse
import shutil
import sys
from pathlib import Path

import yaml

from distill.config.checks.checks import parse_study
from distill.config.reading import check_yaml
from distill.core.display import visible
from distill.core.errors import UserError
from distill.plan.study import Plan
from distill.plan.unused import size_mb, unused_folders, unused_resources


def main() -> int:
    """Print a line per unused folder or file with its size in MB."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--configfile", nargs="+", default=["config.yaml"])
    parser.add_argument("--delete", action="store_true")
    arguments = parser.parse_args()
    plans = []
    try:
        for file in arguments.configfile:
            check_yaml(file)
            plans.append(Plan(parse_study(yaml.safe_load(Path(file).read_text(encoding="utf-8")))))
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    unused = [path for plan in plans for path in unused_folders(plan)] + unused_resources(plans)
    sizes = [size_mb(path) for path in unused]
    for path, size in zip(unused, sizes, strict=True):
        print(visible(f"{size:10.1f} MB  {path}"))
        if arguments.delete:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    what = "deleted" if arguments.delete else "unused"
    print(f"{sum(sizes):10.1f} MB  {what} in {len(unused)} places")
    return 0


if __name__ == "__main__":
    sys.exit(main())
