"""Schemas of the Parquet files between jobs."""

import pyarrow as pa

from distill.contracts.costs import FREE


def cost_fields(prefix: str = "") -> list[tuple[str, pa.DataType]]:
    """Fields of a Parquet schema for the columns of a `Cost`."""
    return [(name, pa.float64()) for name in FREE.columns(prefix)]


CHAT_FIELDS = [("system", pa.large_string()), ("turns", pa.large_string())]
"""What stands before a row's prompt in its chat: `system`, the row's own system text, in place of
the study's; `turns`, the turns between it and the prompt, a JSON list of objects with role (user,
assistant or system) and content. Null where there is none."""
CHECKS_FIELD = ("checks", pa.large_string())
"""What a right answer to a row's prompt meets, as JSON of `AnswerChecks`; null without checks."""
RAW_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("prompt", pa.large_string()),
        ("context", pa.large_string()),
        ("response", pa.large_string()),
        *CHAT_FIELDS,
        CHECKS_FIELD,
    ]
)
"""Candidate prompts; `response` is the data set's response, if any."""
PROMPT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("row", pa.int64()),
        ("prompt", pa.large_string()),
        ("context", pa.large_string()),
        ("reference", pa.large_string()),
        *CHAT_FIELDS,
        CHECKS_FIELD,
        *cost_fields("prompt_"),
    ]
)
"""Prompts after the filter. `row` is the position in the split, `reference` the data set's
response, if any. The costs are those of generating the prompt, including rejected candidates."""
TEXT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("row", pa.int64()),
        ("prompt", pa.large_string()),
        ("context", pa.large_string()),
        ("response", pa.large_string()),
        ("reference", pa.large_string()),
        *CHAT_FIELDS,
        ("prompt_ids", pa.list_(pa.int32())),
        ("response_ids", pa.list_(pa.int32())),
        ("finish_reason", pa.string()),
        *cost_fields("teacher_"),
    ]
)
"""A teacher's text. `reference` is the data set's response, if any. Token ids are the teacher's,
with the token that ended the response; null for ready-made text that no model scores. The costs are
those of the row's prompt (including rejected candidates) and response."""
MASKED_SCHEMA = pa.schema([*TEXT_SCHEMA, ("positions", pa.list_(pa.int32()))])
"""Masked chunks: `prompt_ids` are a model's input, `response_ids` the true tokens at the masked
`positions`; `response` is the text of the chunk."""
STATES_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("tokens", pa.int32()),
        ("hidden", pa.large_binary()),
        *cost_fields(),
    ]
)
"""Per row of text: the final hidden states at the positions that predict its tokens, bf16
[tokens, width] as bytes, and the cost of computing them (0 if generation saved them)."""
LAYERS_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("layers", pa.large_binary()),
        ("scales", pa.large_binary()),
        *cost_fields("layer_"),
    ]
)
"""Per row of text: `layers`, [tokens, layers, width] as int8 (bits 8) or bf16 (bits 16); `scales`,
float32 [tokens, layers], by which int8 is multiplied (empty for bf16); the cost of the forward
pass."""
LOSS_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("tokens", pa.int32()),
        ("loss", pa.float64()),
        *cost_fields(),
    ]
)
"""Per row of text: its number of answer tokens, the teacher's mean loss on them in nats, and the
cost of the output head and, if generation did not save the hidden states, of the scoring pass."""
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
        ("thinking", pa.large_string()),
        ("seconds", pa.float64()),
    ]
)
"""A server's answers. `prompt_tokens` and `tokens` come from its `usage`; `model` is the name in
its reply. With log-probabilities: `ids` are the sampled tokens (llama.cpp omits tokens with only a
part of a character), `log_p` their log-probabilities in nats, and `top_ids` the most likely tokens
by falling probability (of n requested ones only n - 1 are certain, because vLLM counts the sampled
token among them). `thinking` is what the server reports apart from the answer, empty if it reports
only that there was some. `seconds` is the time to the answer divided by the number of concurrent
requests."""
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
"""Per candidate row: the filter that dropped it (null if kept), whether its answer was corrupted,
the teacher's loss in nats per token (null without a filter by loss), the costs of its text and of
that loss."""
CHUNK_SCHEMA = pa.schema([("ids", pa.list_(pa.int32()))])
"""The token ids of each complete chunk of a split, in order."""
DATA_SCHEMA = pa.schema(
    [
        *((name, pa.large_string()) for name in ("prompt", "context", "response", "text")),
        *CHAT_FIELDS,
        CHECKS_FIELD,
    ]
)
"""The fields of a data set; null for a field that it does not have."""
