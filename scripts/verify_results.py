"""Check that a study's results are what the study wrote; also where they were copied elsewhere.

Models and data that the study read are checked where they are at hand, from `results/STUDY/../..`.

python scripts/verify_results.py results/STUDY [...]
"""

import argparse
import sys
from pathlib import Path

from distill.core.display import visible
from distill.core.errors import UserError
from distill.workflow.provenance import verify


def main() -> int:
    """Print a line per file that is not as written, and what was found in each folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", nargs="+", type=Path)
    failed = False
    for folder in parser.parse_args().folder:
        try:
            found = verify(folder)
        except UserError as error:
            print(f"Error: {error}", file=sys.stderr)
            failed = True
            continue
        for sentence in found.wrong:
            print(visible(f"{folder}: {sentence}"))
        named = found.outputs + found.inputs
        print(
            f"{folder}: {named - len(found.wrong)} of {named} files are as written "
            f"({found.outputs} results, {found.inputs} of models and data)"
        )
        if found.further:
            more = f"{len(found.further)} more are not in the record: {found.further[0]}"
            print(visible(f"{folder}: {more}"))
        failed = failed or bool(found.wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
