"""Check that a study's results are what the study wrote; also where they were copied elsewhere.

python scripts/verify_results.py results/STUDY [...]
"""

import argparse
import sys
from pathlib import Path

from distill.files import UserError
from distill.provenance import changed_outputs
from distill.shown import visible


def main() -> int:
    """Print a line per file that is not as written, and one per folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", nargs="+", type=Path)
    failed = False
    for folder in parser.parse_args().folder:
        try:
            count, wrong = changed_outputs(folder)
        except UserError as error:
            print(f"Error: {error}", file=sys.stderr)
            failed = True
            continue
        for sentence in wrong:
            print(visible(f"{folder}: {sentence}"))
        print(f"{folder}: {count - len(wrong)} of {count} files are as written")
        failed = failed or bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
