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
LAYERS_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("layers", pa.large_binary()),
        ("scales", pa.large_binary()),
        *cost_fields("layer_"),
    ]
)
"""Per row of text: `layers`, [tokens, layers, width] as int8 (bits 8) or bf16 (bits 16); `scales`,
float32 [tokens, layers], by which int8 is multiplied (empty for bf16); FLOPs, seconds and energy of
the forward pass."""
LOSS_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("tokens", pa.int32()),
        ("loss", pa.float64()),
        *cost_fields(),
    ]
)
"""Per row of text: its answer tokens, the teacher's mean loss on them in nats, and what it cost:
the output head, and the scoring pass where the hidden states did not fall out of generation."""
ANSWERS_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("response", pa.large_string()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("tokens", pa.int64()),
        ("model", pa.string()),
        ("ids", pa.list_(pa.int32())),
        ("log_p", pa.list_(pa.float32())),
        ("top_ids", pa.list_(pa.list_(pa.int32()))),
        ("top_log_p", pa.list_(pa.list_(pa.float32()))),
        ("seconds", pa.float64()),
    ]
)
"""A server's answers. Tokens are counted by its `usage`; `model` is the name that it gives itself.
Where log-probabilities are asked for: the drawn token of each position (llama.cpp leaves out those
that begin a letter and do not end it) and log p of it in nats, and the likeliest tokens by falling
probability (one fewer than asked for are sure to be the likeliest: vLLM puts the drawn token among
them). `seconds` is the time until the answer over the requests under way at once."""
DECISIONS_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("row", pa.int64()),
        ("dropped", pa.string()),
        ("corrupted", pa.bool_()),
        ("teacher_loss", pa.float64()),
        *cost_fields("teacher_"),
        *cost_fields("filter_"),
    ]
)
"""Per row read: why it was dropped (null where kept), whether its answer was changed, the teacher's
own loss in nats per token (null where not asked for), the costs of writing it and of that loss."""
CHUNK_SCHEMA = pa.schema([("ids", pa.list_(pa.int32()))])
"""All whole chunks of a split, in order: the tokens of each."""
DATA_SCHEMA = pa.schema(
    [(name, pa.large_string()) for name in ("prompt", "context", "response", "text")]
)
"""The named fields of a data set; null where it has none of a name."""
