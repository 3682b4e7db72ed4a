"""A teacher's own loss on the answers of a text, from its hidden states, to choose rows by."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from distill.contracts.costs import Cost, cost_of
from distill.contracts.schemas import LOSS_SCHEMA
from distill.core.errors import UserError
from distill.core.parquet import read_rows, write_rows
from distill.models.decoding import Decoding
from distill.models.heads import OutputHead, hidden_states, load_head, teacher_log_q
from distill.runtime.device import device
from distill.runtime.meter import Meter


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
    state_of = {row["id"]: row for row in states}
    losses, meter = [], Meter()
    for row in rows:
        state, ids = state_of.get(row["id"]), torch.tensor(list(row["response_ids"]))
        if state is None or state["tokens"] != len(ids):
            raise UserError(
                f"the hidden states lack the present answer {row['id']}; delete them and run again"
            )
        hidden = hidden_states(state["hidden"], head.weight.shape[1], state["tokens"])
        logs = teacher_log_q(head, hidden, Decoding(temperature)).cpu()
        loss = -logs.gather(1, ids.unsqueeze(1)).double().mean()
        head_pass = Cost(float(2 * head.weight.numel() * len(ids)))
        losses.append(
            {
                "id": row["id"],
                "tokens": len(ids),
                "loss": float(loss),
                **(head_pass + cost_of(state) + meter.lap()).columns(),
            }
        )
    return losses


def score_answers(
    text: str | Path, states: str | Path, head: str | Path, out: str | Path, spec: dict[str, Any]
) -> None:
    """Save a teacher's own mean loss on each answer of one part of a text.

    Args:
        text: The part of the text.
        states: The teacher's final hidden states on its answers.
        head: The teacher's output head.
        out: The losses, rows of `LOSS_SCHEMA`.
        spec: temperature; stored in the output.

    Raises:
        UserError: As `answer_losses`.
    """
    opened = load_head(head, device())
    rows = answer_losses(read_rows(text), read_rows(states), opened, spec["temperature"])
    write_rows(out, rows, LOSS_SCHEMA, spec=spec)
