"""Write the config's JSON schema and the reference pages in docs/reference/ from the code.

    python scripts/write_schema.py

A test fails when one of them differs from what the code says.
"""

from pathlib import Path

from distill.core.files import write_text
from distill.workflow.reference_pages import page_text, schema_text, sound_pairs_text, table_text

DOCS = Path(__file__).resolve().parent.parent / "docs/reference"
PAGES = {
    "config.schema.json": schema_text,
    "config.md": page_text,
    "runs_table.md": table_text,
    "sound_pairs.md": sound_pairs_text,
}

if __name__ == "__main__":
    for name, text in PAGES.items():
        write_text(DOCS / name, text())
