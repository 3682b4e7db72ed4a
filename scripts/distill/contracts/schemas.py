"""Columns of the Parquet files that jobs hand to each other."""

import pyarrow as pa

from distill.contracts.costs import FREE


def cost_fields(prefix: str = "") -> list[tuple[str, pa.DataType]]:
    """Fields of a Parquet schema for the columns of a `Cost`."""
    return [(name, pa.float64()) for name in FREE.columns(prefix)]


RAW_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("prompt", pa.large_string()),
        ("context", pa.large_string()),
        ("response", pa.large_string()),
    ]
)
"""Candidate prompts; `response` is the data set's own, if any."""
PROMPT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("row", pa.int64()),
        ("prompt", pa.large_string()),
        ("context", pa.large_string()),
        ("reference", pa.large_string()),
        *cost_fields("prompt_"),
    ]
)
"""Kept prompts; `row` is the place in the split, `reference` the data set's own response, if any;
the costs are those of writing the prompt, rejected candidates included."""
TEXT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("row", pa.int64()),
        ("prompt", pa.large_string()),
        ("context", pa.large_string()),
        ("response", pa.large_string()),
        ("reference", pa.large_string()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("response_ids", pa.list_(pa.int32())),
        ("finish_reason", pa.string()),
        *cost_fields("teacher_"),
    ]
)
"""A teacher's text. `reference` is the data set's own response, if any. Token ids are the
teacher's, with the token that ended the response; null for ready-made text that no model scores.
The costs are those of the row's prompt (rejected candidates included) and response."""
MASKED_SCHEMA = pa.schema([*TEXT_SCHEMA, ("positions", pa.list_(pa.int32()))])
"""Masked chunks: `prompt_ids` is what a model sees, `response_ids` the true tokens to be found and
`positions` where they stand; `response` is the chunk as it reads."""
STATES_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("tokens", pa.int32()),
        ("hidden", pa.large_binary()),
        *cost_fields(),
    ]
)
"""Per row of text: the final hidden states at the positions that predict its tokens, bf16
[tokens, width] as bytes, and the FLOPs, seconds and energy of computing them (0 where they fell out
of generation)."""
