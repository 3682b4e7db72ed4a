"""On-policy distillation: the teacher itself is asked, also about answers that the student writes.

GKD (Agarwal 2024, arXiv 2306.13649, algorithm 1): in a share of the updates the student answers the
batch's prompts at its weights of that moment, and learns the teacher's distribution at each token
that it wrote; no gradient flows through the sampling. The other updates learn the text's answers.
The teacher's final hidden states are taken in bf16, as a `final_hidden` cache keeps them, so that
both give the same q; only that a cache has them of the text alone.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from distill.core.errors import UserError
from distill.core.noise import row_uniforms
from distill.models.decoding import Decoding
from distill.models.encoding import collate
from distill.models.flops import FlopModel, training_passes
from distill.models.forward import bare
from distill.models.head_extraction import final_hidden, model_head
from distill.models.opening import load_teacher
from distill.models.responses import StopStrings
from distill.models.rows import Example, drawn_tokens, scored_positions
from distill.models.sampling import sample_batch
from distill.models.token_ids import ids_without_token
from distill.models.tokenizers import load_tokenizer
from distill.models.turns import turns_of
from distill.training.batch_sharing import blank
from distill.training.batches import Item
from distill.training.objective import Objective

LOGGED = "live/"
"""What the log entries of an update that asked the teacher begin with."""


def live_targets(method: Mapping[str, Any], teacher: Mapping[str, Any]) -> dict[str, Any]:
    """What an objective must know of a live teacher, in the form of a cache's spec."""
    return {"scheme": "final_hidden", "tokens": method["tokens"], "scorers": [teacher]}


def own_answers(update: int, share: float, seed: int) -> bool:
    """Whether the student writes the answers of an update (counted from 0).

    With probability `share` over seeds, as in GKD, but evenly spaced: of any number of updates in a
    row the part written by the student is within one of its share (systematic sampling).
    """
    start = float(row_uniforms("on-policy", seed, 1)[0])
    return math.floor((update + 1) * share + start) > math.floor(update * share + start)


class LiveTeacher:
    """A teacher beside a student that trains: makes each update's batches and counts their work.

    Args:
        folder: Directory of the teacher's model.
        spec: formatting, method, train, teacher, seed and stop (if set), of the run.
        tokenizer: The student's, which is the teacher's too.
        items: Training examples with their rows.
        objective: The method's, of `live_targets`; it is given the teacher's head.

    Raises:
        UserError: A prompt leaves no room for a sampled answer, or the teacher cannot be asked.
    """

    def __init__(
        self,
        folder: str | Path,
        spec: Mapping[str, Any],
        tokenizer: Any,
        items: Sequence[Item],
        objective: Objective,
    ) -> None:
        self.settings, self.tokens = spec["method"]["on_policy"], spec["method"]["tokens"]
        self.seed, self.pad = spec["seed"], tokenizer.pad_token_id
        self.tokenizer, self.any_item = tokenizer, items[0]
        self.stops = StopStrings(tokenizer, spec.get("stop", ()))
        self.longest = longest_live(items, self.settings, spec["train"]["max_length"])
        self.model = load_teacher(folder, spec["teacher"], sequence=self.longest)
        self.teacher_tokenizer = load_tokenizer(folder)
        objective.head = model_head(self.model, self.teacher_tokenizer)
        self.drawn = bool(spec["teacher"].get("drawn"))
        # Cross-entropy on the student's own samples teaches nothing.
        without_ce = Objective({**spec["method"], "ce": 0.0}, objective.cache, objective.head)
        self.objectives = {False: objective, True: without_ce}
        self.flops, self.passes = FlopModel.from_model(self.model), training_passes(spec["train"])

    def update(
        self,
        model: Any,
        flops: FlopModel,
        batches: Sequence[Sequence[Item]],
        number: int,
        precision: AbstractContextManager[Any],
    ) -> tuple[list[dict[str, Any]], Objective, dict[str, int]]:
        """The micro-batches of an update, what is minimised on them, and their work.

        Args:
            model: The student.
            flops: The student's.
            batches: Items of each micro-batch.
            number: Of the update, from 0.
            precision: Context in which the student runs.
        """
        sampled = own_answers(number, self.settings["share"], self.seed)
        if sampled:
            with precision:
                batches = self.written(model, batches, number)
        micro_batches = [self.collate(items, self.drawn and not sampled) for items in batches]
        return micro_batches, self.objectives[sampled], self.work(flops, batches, sampled)

    def written(
        self, model: Any, batches: Sequence[Sequence[Item]], number: int
    ) -> list[list[Item]]:
        """The items with answers that the student generates now.

        All rows of an update are decoded at once, each from its own noise: the split
        into micro-batches and a killed job change nothing.
        """
        items, steps = [item for batch in batches for item in batch], self.settings["max_tokens"]
        if not items:  # several processes share an update, and there were too few for this one
            return [list(batch) for batch in batches]
        noise = [row_uniforms(f"{_name(item)}\0{number}", self.seed, steps) for item in items]
        training = model.training
        answers = sample_batch(
            model.eval(),
            [item.example.prompt for item in items],
            stop_ids=turns_of(self.tokenizer).stops,
            stopped=self.stops.reached if self.stops else None,
            max_new_tokens=steps,
            decoding=Decoding(self.settings["temperature"], excluded=self._unread(model)),
            uniforms=np.stack(noise),
        )
        model.train(training)
        left = iter(answers)
        return [
            [Item(Example(item.example.prompt, next(left)[0]), item.row) for item in batch]
            for batch in batches
        ]

    def _unread(self, model: Any) -> tuple[int, ...]:
        """Ids of the student that the teacher has no token for."""
        rows = len(bare(model).get_output_embeddings().weight)
        teacher_rows = len(self.model.get_input_embeddings().weight)
        excluded = ids_without_token(self.teacher_tokenizer, min(rows, teacher_rows))
        return (*excluded, *range(teacher_rows, rows))

    def collate(self, items: Sequence[Item], drawn: bool = False) -> dict[str, Any]:
        """A padded batch with `soft_mask` and the teacher's `states` there, as `TargetReader`'s;
        with `drawn` too, if the teacher drew the answers from a cut distribution."""
        if not items:
            return blank(self.collate([self.any_item], drawn))
        batch: dict[str, Any] = collate([item.example for item in items], self.pad)
        mask = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
        for number, item in enumerate(items):
            where = self.positions(item)
            mask[number, list(where)] = True
        device = self.model.device
        with torch.inference_mode():
            names = ("input_ids", "attention_mask")
            hidden = final_hidden(self.model, *(batch[name].to(device) for name in names))
            states = hidden[mask.to(device)]
        batch |= {"soft_mask": mask, "states": states.to(torch.bfloat16, copy=True)}
        if drawn:
            batch["drawn"] = torch.cat([self._drawn(item) for item in items])
        return batch

    def positions(self, item: Item) -> Sequence[int]:
        """Positions of an item whose next token is compared with the teacher's."""
        return scored_positions(self._row(item), self.tokens)

    def _drawn(self, item: Item) -> torch.Tensor:
        """The text's token after each of an item's positions; -1 in prompts and where a curation
        corrupted the answer, which then has no ids."""
        assert item.row is not None
        tokens = torch.tensor(drawn_tokens(self._row(item), self.tokens))
        return tokens if item.row["response_ids"] is not None else torch.full_like(tokens, -1)

    @staticmethod
    def _row(item: Item) -> dict[str, Any]:
        """Prompt and answer of an item, as a text row names them."""
        return {"prompt_ids": item.example.prompt, "response_ids": item.example.answer}

    def work(
        self, flops: FlopModel, batches: Sequence[Sequence[Item]], sampled: bool
    ) -> dict[str, int]:
        """Tokens and FLOPs of an update: of its answers, those sampled, training and teacher.

        Training includes the sampling; the teacher's are a forward pass with its head.
        """
        counts = dict.fromkeys(("answers", "sampled", "train_flops", "target_flops"), 0)
        for item in (item for batch in batches for item in batch):
            prompt, answer = len(item.example.prompt), len(item.example.answer)
            scored = len(self.positions(item))
            counts["answers"] += answer
            counts["train_flops"] += self.passes * flops.sequence_forward(prompt + answer, scored)
            counts["target_flops"] += self.flops.sequence_forward(prompt + answer, scored)
            if sampled:
                counts["sampled"] += answer
                counts["train_flops"] += flops.generation(prompt, answer)
        return counts


def longest_live(items: Sequence[Item], settings: Mapping[str, Any], limit: int) -> int:
    """Most tokens of a prompt with an answer, the text's or a sampled one.

    Raises:
        UserError: A sampled answer could exceed `train.max_length`.
    """
    worst = max(items, key=lambda item: len(item.example.prompt))
    written = len(worst.example.prompt) + settings["max_tokens"]
    if written > limit:
        raise UserError(
            f"the prompt {_name(worst)} has {len(worst.example.prompt)} tokens, so answers of "
            f"on_policy.max_tokens ({settings['max_tokens']}) exceed train.max_length ({limit}); "
            "raise that or lower on_policy.max_tokens"
        )
    lengths = (len(item.example.prompt) + len(item.example.answer) for item in items)
    return max(written, *lengths)


def _name(item: Item) -> str:
    """The id of an item's row."""
    assert item.row is not None
    return str(item.row["id"])


def counted(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Totals of a training run with a live teacher, from its log, which checkpoints keep.

    Returns:
        tokens_seen; sampled_tokens and sampled_updates, those of the student's own answers;
        train_flops with the sampling, and target_flops, the teacher's.
    """
    logged = [entry for entry in history if f"{LOGGED}answers" in entry]

    def total(name: str) -> int:
        return int(sum(entry[LOGGED + name] for entry in logged))

    return {
        "tokens_seen": total("answers"),
        "sampled_tokens": total("sampled"),
        "sampled_updates": sum(entry[f"{LOGGED}sampled"] > 0 for entry in logged),
        "train_flops": total("train_flops"),
        "target_flops": total("target_flops"),
    }
