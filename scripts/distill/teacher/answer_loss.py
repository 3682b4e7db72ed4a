"""A teacher's own loss on the answers of a text, from its hidden states, to choose rows by."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import torch

from distill.contracts.costs import Cost, cost_of
from distill.contracts.schemas import cost_fields
from distill.core.errors import UserError
from distill.models.decoding import Decoding
from distill.models.heads import OutputHead, hidden_states, teacher_log_q
from distill.runtime.meter import Meter

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


@torch.inference_mode()
def answer_losses(
    rows: Sequence[dict[str, Any]],
    states: Sequence[dict[str, Any]],
    head: OutputHead,
    temperature: float,
) -> list[dict[str, Any]]:
    """Mean −log q of each answer's tokens, the end token included, at the teacher's temperature.

    Top-k and top-p are not applied: a rounded hidden state could put a token that was drawn just
    outside their set, and its loss at infinity.

    Args:
        rows: Rows of a text part.
        states: Rows of `STATES_SCHEMA` of the same part, answers only.
        head: The teacher's output head.
        temperature: The teacher's.

    Returns:
        Rows of `LOSS_SCHEMA`, in the order of `rows`.

    Raises:
        UserError: The states are not those of the rows.
    """
    found = {row["id"]: row for row in states}
    made, meter = [], Meter()
    for row in rows:
        state, ids = found.get(row["id"]), torch.tensor(list(row["response_ids"]))
        if state is None or state["tokens"] != len(ids):
            raise UserError(
                f"the hidden states lack the answer {row['id']} as it stands; delete them and run "
                "again"
            )
        hidden = hidden_states(state["hidden"], head.weight.shape[1])
        logs = teacher_log_q(head, hidden, Decoding(temperature)).cpu()
        loss = -logs.gather(1, ids.unsqueeze(1)).double().mean()
        head_pass = Cost(float(2 * head.weight.numel() * len(ids)))
        made.append(
            {
                "id": row["id"],
                "tokens": len(ids),
                "loss": float(loss),
                **(head_pass + cost_of(state) + meter.lap()).columns(),
            }
        )
    return made
