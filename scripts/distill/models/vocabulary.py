"""A student with a trimmed vocabulary: the most frequent ids, and one class for all others.

The vocabulary head dominates small students, and most of a teacher's tokens hardly occur. A trimmed
student keeps the most frequent ids and has one more class, *other*, whose probability is divided
evenly among the m dropped ids:

    p(i) = softmax(z)_i for a kept id,  p(i) = softmax(z)_other / m for a dropped one.

This is a proper likelihood of the teacher's tokens, so losses are comparable across vocabularies.
In training, the logit of *other* has the constant log m added. Therefore a model with one row per
id of the full vocabulary, in which all dropped ids share the row of *other*, gives the same
probabilities. A trimmed student is saved in that form, so any program opens it with the full
tokenizer; it is trained, timed and counted with its small vocabulary. The full vocabulary ends with
the tokenizer's last id: rows that only pad a source's output matrix are neither kept nor dropped.
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
"""File beside a trimmed student: its kept ids and the width of the full vocabulary."""
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
"""Special ids in a model's config."""


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
            raise ValueError(f"{len(kept)} kept ids are not a trimmed vocabulary of {full}")
        self.kept, self.full = list(kept), full
        self.other = len(kept)
        """The student's id of the class of all dropped ids."""
        self.width = len(kept) + 1
        self.dropped = full - len(kept)
        self.ids = torch.full((full,), self.other)
        """int64 [full vocabulary]: the student's id of each id."""
        self.ids[torch.tensor(self.kept)] = torch.arange(len(kept))
        self.spread = math.log(self.dropped)
        """-log p of a dropped id minus that of *other*, nats."""

    @classmethod
    def load(cls, folder: str | Path) -> "Vocabulary | None":
        """The vocabulary of the student in a folder; None for a full one."""
        file = Path(folder) / FILE
        if not file.is_file():
            return None
        stored = read_json(file)
        return cls(stored["kept"], stored["full"])

    def record(self) -> dict[str, Any]:
        """The content of `FILE`."""
        return {"schema": 1, "full": self.full, "kept": self.kept}

    def encode(self, example: Example) -> Example:
        """An example in the student's ids."""
        prompt, answer = (self.ids[ids].tolist() for ids in (example.prompt, example.answer))
        return Example(prompt, answer)

    def token_ids(self, tokenizer: Any) -> dict[str, int]:
        """The tokenizer's special ids, as the student's ids."""
        ids = {key: getattr(tokenizer, key) for key in TOKEN_IDS}
        return {key: int(self.ids[value]) for key, value in ids.items() if value is not None}

    def repeated(self, model: Any) -> int:
        """Number of repeated parameters of an expanded model: rows of all dropped ids but one."""
        tables = {
            module.weight.data_ptr(): module.weight
            for module in (model.get_input_embeddings(), model.get_output_embeddings())
        }
        return sum((self.dropped - 1) * table.shape[1] for table in tables.values())

    def nats(self, ids: torch.Tensor) -> torch.Tensor:
        """Term to add to -log p of the student's ids: log m at *other*, else 0; float32."""
        return (ids == self.other).float() * self.spread

    def coarse(self, log_p: torch.Tensor) -> torch.Tensor:
        """Log-probabilities [rows, full or more] over the student's classes [rows, width].

        Ids beyond the full vocabulary (of a padded head) count as dropped.
        """
        ids = self.ids.to(log_p.device)
        if log_p.shape[1] > self.full:
            padding = ids.new_full((log_p.shape[1] - self.full,), self.other)
            ids = torch.cat([ids, padding])
        ids = ids[: log_p.shape[1]]
        mass = log_p.new_zeros(len(log_p), self.width)
        return mass.index_add_(1, ids, log_p.exp()).log()

    def floor(self, q: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
        """The smallest KL(q || student), [rows], in nats, of any student with this vocabulary.

        It is the loss from dividing the mass of dropped ids evenly.

        Args:
            q: Probabilities [rows, full].
            log_q: Their logarithms; -inf is allowed where q is 0.
        """
        gone = (self.ids == self.other).to(q)[
            : q.shape[1]
        ]  # a matrix product is faster than indexing
        mass = q @ gone
        log_mass = (q * log_q.clamp_min(-1e9)) @ gone
        return (log_mass - torch.special.xlogy(mass, mass) + mass * self.spread).clamp_min(0)


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
    counts: Mapping[int, int],
    always: Iterable[int],
    size: int,
    full: int,
    excluded: Iterable[int] = (),
) -> Vocabulary:
    """The `size` most frequent ids, including `always`; of equally frequent ones the lowest.

    Byte-pair ids are numbered in the order of their merges, so low unseen ids are the most likely.
    `excluded` ids, which have no token, come last.

    Raises:
        UserError: `size` is not below the full vocabulary.
    """
    check_size(size, full)
    first, last = set(always), set(excluded)

    def place(number: int) -> tuple[bool, bool, int]:
        return number not in first, number in last, -counts.get(number, 0)

    order = sorted(range(full), key=place)
    return Vocabulary(sorted(order[:size]), full)


def _rows(vocabulary: Vocabulary, weight: torch.Tensor) -> torch.Tensor:
    """Rows of a full table [full, ...] for the student: kept ones, and the mean of the others."""
    dropped = vocabulary.ids == vocabulary.other
    weight = weight[: vocabulary.full]
    return torch.cat([weight[~dropped], weight[dropped].mean(0, keepdim=True)])


def _set_tables(model: Any, vocabulary: Vocabulary, trim: bool) -> Any:
    """Replace the rows of a model's embeddings and output head by those of another vocabulary."""
    tables = {}

    def other(weight: torch.Tensor) -> torch.nn.Parameter:
        key = weight.data_ptr()  # tied tables stay tied
        if key not in tables:
            rows = _rows(vocabulary, weight) if trim else weight[vocabulary.ids]
            tables[key] = torch.nn.Parameter(rows.detach().clone())
        return tables[key]

    inputs, head = model.get_input_embeddings(), model.get_output_embeddings()
    table, output = other(inputs.weight), other(head.weight)
    inputs.weight, head.weight = table, output
    inputs.num_embeddings = head.out_features = len(table)
    inputs.padding_idx = None
    model.config.vocab_size = len(table)
    return model


def check_head(model: Any) -> None:
    """Check that a model's logits are its last states times a matrix, which *other* requires.

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
    """Reduce a model with the full vocabulary to a student's vocabulary, in place.

    Raises:
        UserError: Its output head is more than a matrix.
    """
    check_head(model)
    _set_ids(model, vocabulary.token_ids(tokenizer))
    return _set_tables(model, vocabulary, trim=True)


def expand_model(model: Any, vocabulary: Vocabulary, tokenizer: Any) -> Any:
    """Expand a trimmed student to the full vocabulary, in place, with the same probabilities."""
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
