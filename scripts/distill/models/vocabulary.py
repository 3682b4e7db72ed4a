"""A student with a trimmed vocabulary: its words, and one class for all others.

The vocabulary head dominates small students, and most of a teacher's words hardly occur. A trimmed
student keeps the most frequent ids and has one more class, *other*, whose probability spreads
evenly over the m ids that were dropped:

    p(i) = softmax(z)_i for a kept id,  p(i) = softmax(z)_other / m for a dropped one,

a proper likelihood of the very tokens that the teacher drew, so losses stay comparable across
vocabularies. The logit of *other* carries a constant log m, and therefore the same model with a row
of the full vocabulary per id, all dropped ids sharing *other*'s row, gives the same probabilities:
that is how a trimmed student is saved, so it opens as any model does, with the full tokenizer. It
is trained, timed and counted in its own small vocabulary.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from distill.core.errors import UserError
from distill.core.files import read_json
from distill.models.rows import Example

FILE = "vocabulary.json"
"""Beside a trimmed student: the ids that it keeps, and the width of the full vocabulary."""
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
"""Special ids that a model's config names."""


class Vocabulary:
    """The ids that a trimmed student keeps.

    Args:
        kept: Ids of the full vocabulary, ascending; the i-th is the student's id i.
        full: Width of the full vocabulary.

    Raises:
        ValueError: The ids are not ascending, or none is dropped.
    """

    def __init__(self, kept: Sequence[int], full: int) -> None:
        if list(kept) != sorted(set(kept)) or not 0 < len(kept) < full or kept[-1] >= full:
            raise ValueError(f"{len(kept)} kept ids are no trimmed vocabulary of {full}")
        self.kept, self.full = list(kept), full
        self.other = len(kept)
        """The student's id of all dropped ids together."""
        self.width = len(kept) + 1
        self.dropped = full - len(kept)
        self.ids = torch.full((full,), self.other)
        """int64 [full vocabulary]: the student's id of each."""
        self.ids[torch.tensor(self.kept)] = torch.arange(len(kept))
        self.spread = math.log(self.dropped)
        """What a dropped id costs beyond *other*, nats."""

    @classmethod
    def load(cls, folder: str | Path) -> "Vocabulary | None":
        """The vocabulary of the student in a folder; None for a whole one."""
        file = Path(folder) / FILE
        if not file.is_file():
            return None
        stored = read_json(file)
        return cls(stored["kept"], stored["full"])

    def record(self) -> dict[str, Any]:
        """The content of its file."""
        return {"schema": 1, "full": self.full, "kept": self.kept}

    def encode(self, example: Example) -> Example:
        """An example in the student's ids."""
        prompt, answer = (self.ids[ids].tolist() for ids in (example.prompt, example.answer))
        return Example(prompt, answer)

    def token_ids(self, tokenizer: Any) -> dict[str, int]:
        """The tokenizer's special ids in a config of the student."""
        given = {key: getattr(tokenizer, key) for key in TOKEN_IDS}
        return {key: int(self.ids[value]) for key, value in given.items() if value is not None}

    def repeated(self, model: Any) -> int:
        """Parameters of an expanded model that repeat others: rows of dropped ids but one."""
        tables = {
            module.weight.data_ptr(): module.weight
            for module in (model.get_input_embeddings(), model.get_output_embeddings())
        }
        return sum((self.dropped - 1) * table.shape[1] for table in tables.values())

    def nats(self, ids: torch.Tensor) -> torch.Tensor:
        """What must be added to -log p of the student's ids: log m at *other*, float32."""
        return (ids == self.other).float() * self.spread

    def coarse(self, log_p: torch.Tensor) -> torch.Tensor:
        """Log-probabilities [rows, full or more] over the student's classes [rows, width].

        Ids beyond the full vocabulary (a head that is padded) are no text and count as dropped.
        """
        ids = self.ids.to(log_p.device)
        if log_p.shape[1] > self.full:
            padding = ids.new_full((log_p.shape[1] - self.full,), self.other)
            ids = torch.cat([ids, padding])
        ids = ids[: log_p.shape[1]]
        mass = log_p.new_zeros(len(log_p), self.width)
        return mass.index_add_(1, ids, log_p.exp()).log()

    def floor(self, q: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
        """KL [rows] of q [rows, full] to what the vocabulary can express of it, nats.

        The least KL(q || student) that any student with this vocabulary can reach: what is lost
        by spreading the mass of dropped ids evenly. `log_q` may be -inf where q is 0.
        """
        gone = (self.ids == self.other).to(q)[: q.shape[1]]  # products skip no column, but are fast
        mass = q @ gone
        own = (q * log_q.clamp_min(-1e9)) @ gone
        return (own - torch.special.xlogy(mass, mass) + mass * self.spread).clamp_min(0)


def count_tokens(rows: Iterable[Mapping[str, Any]]) -> Counter[int]:
    """How often each id occurs in the prompts and responses of text rows."""
    counts: Counter[int] = Counter()
    for row in rows:
        counts.update(row["prompt_ids"] or [])
        counts.update(row["response_ids"] or [])
    return counts


def check_size(size: int, full: int) -> None:
    """Check that a trimmed vocabulary is smaller than the full one.

    Raises:
        UserError: It is not.
    """
    if size >= full:
        raise UserError(
            f"a student's vocabulary of {size:,} ids is not smaller than the full one "
            f"({full:,}); lower vocabulary.size or remove vocabulary"
        )


def most_frequent(
    counts: Mapping[int, int], always: Iterable[int], size: int, full: int
) -> Vocabulary:
    """The `size` most frequent ids, `always` among them; of equally frequent ones the lowest.

    Byte-pair ids are numbered in the order of their merges, so among the unseen the lowest are
    the likeliest.

    Raises:
        UserError: `size` is not below the full vocabulary.
    """
    check_size(size, full)
    first = set(always)
    order = sorted(range(full), key=lambda number: (number not in first, -counts.get(number, 0)))
    return Vocabulary(sorted(order[:size]), full)


def _rows(vocabulary: Vocabulary, weight: torch.Tensor) -> torch.Tensor:
    """Rows of a full table [full, ...] for the student: those kept, and the mean of the dropped."""
    dropped = vocabulary.ids == vocabulary.other
    weight = weight[: vocabulary.full]
    return torch.cat([weight[~dropped], weight[dropped].mean(0, keepdim=True)])


def _set_tables(model: Any, vocabulary: Vocabulary, trim: bool) -> Any:
    """Give a model the rows of another vocabulary in its embeddings and output head."""
    made = {}

    def other(weight: torch.Tensor) -> torch.nn.Parameter:
        key = weight.data_ptr()  # tied tables stay tied
        if key not in made:
            rows = _rows(vocabulary, weight) if trim else weight[vocabulary.ids]
            made[key] = torch.nn.Parameter(rows.detach().clone())
        return made[key]

    inputs, head = model.get_input_embeddings(), model.get_output_embeddings()
    table, output = other(inputs.weight), other(head.weight)
    inputs.weight, head.weight = table, output
    inputs.num_embeddings = head.out_features = len(table)
    inputs.padding_idx = None
    model.config.vocab_size = len(table)
    return model


def check_head(model: Any) -> None:
    """Check that a model's logits are its last states times a matrix, as *other* needs.

    Raises:
        UserError: They have a bias, a scale or a soft cap.
    """
    config = model.config
    odd = getattr(model.get_output_embeddings(), "bias", None) is not None
    odd = odd or bool(getattr(config, "final_logit_softcapping", None))
    if odd or any(
        (getattr(config, name, 1) or 1) != 1 for name in ("logit_scale", "logits_scaling")
    ):
        raise UserError(
            f"the output head of {config.model_type} has a bias, a scale or a soft cap, so its "
            "vocabulary cannot be trimmed; remove the student's vocabulary"
        )


def trim_model(model: Any, vocabulary: Vocabulary, tokenizer: Any) -> Any:
    """Cut a model with the full vocabulary down to a student's, in place.

    Raises:
        UserError: Its output head is more than a matrix.
    """
    check_head(model)
    _set_ids(model, vocabulary.token_ids(tokenizer))
    return _set_tables(model, vocabulary, trim=True)


def expand_model(model: Any, vocabulary: Vocabulary, tokenizer: Any) -> Any:
    """Give a trimmed student the full vocabulary back, in place, with the same probabilities."""
    model.get_output_embeddings().bias = None
    _set_tables(model, vocabulary, trim=False)
    _set_ids(model, {key: getattr(tokenizer, key) for key in TOKEN_IDS})
    return model


def _set_ids(model: Any, ids: Mapping[str, int | None]) -> None:
    for key, value in ids.items():
        setattr(model.config, key, value)
        setattr(model.generation_config, key, value)


def add_spread(model: Any, vocabulary: Vocabulary) -> None:
    """Put the constant log m on the logit of *other*, for training in the small vocabulary."""
    head = model.get_output_embeddings()
    bias = torch.zeros(vocabulary.width, device=head.weight.device, dtype=head.weight.dtype)
    bias[vocabulary.other] = vocabulary.spread
    head.bias = torch.nn.Parameter(bias, requires_grad=False)
