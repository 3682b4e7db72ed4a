"""Check that config files can be read at all, which Snakemake does before any rule of ours.

    python scripts/check_config.py FILE ...

What a file holds is checked by the workflow itself, before its first job.
"""

import sys

from distill.config.reading import readable

if __name__ == "__main__":
    for file in sys.argv[1:]:
        readable(file)
