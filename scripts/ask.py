"""Ask a finished study: expected loss, samples needed, best student for a budget, its laws.

    python scripts/ask.py results/<study> loss --student NAME --samples 5000
    python scripts/ask.py results/<study> samples --student NAME --perplexity 8
    python scripts/ask.py results/<study> best --budget-hours 10
    python scripts/ask.py results/<study> laws

Each answer names its law, its intervals and how far it extrapolates; `--json` is for machines.
"""

import json
import sys
from collections.abc import Sequence

from distill.ask.program import answer, parser
from distill.core.display import visible
from distill.core.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the answer; 1 where there is none."""
    given = parser(__doc__).parse_args(arguments)
    try:
        record, text = answer(given)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(record, allow_nan=False) if given.json else visible(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
