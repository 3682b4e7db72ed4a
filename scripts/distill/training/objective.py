"""What a student minimises: the method's losses, summed with its weights, each over its own tokens.

    loss = ce * CE + T^2 * sum_d weight_d * D_d(p_T || s_T) + hidden + embedding

CE is averaged over the answer's tokens; the soft losses over the tokens that the method names; all
counts are those of the whole batch, so that accumulation changes nothing. `spans` sums over the
aligned spans of text and is averaged over the student's tokens in them.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from distill.contracts.divergences import DIVERGENCES
from distill.core.errors import UserError
from distill.models.decoding import Decoding
from distill.models.forward import BLOCK_ROWS
from distill.models.heads import OutputHead, teacher_log_q
from distill.models.vocabulary import Vocabulary
from distill.training.batches import LAST, soft_losses
from distill.training.cross_tokenizer import coarse_uld, likelihood_gap, shared_kl, uld
from distill.training.losses import (
    FUNCTIONS,
    coarse_divergence,
    dense_divergence,
    hidden_cosine,
    hidden_mse,
    sparse_cross_entropy,
)

SMALLEST = -25 * math.log(2)
"""log of half the smallest mass of a tail, which is stored in half precision."""
MATCH = {"mse": hidden_mse, "cosine": hidden_cosine}


class Objective:
    """The method's loss as a function of a model's output and a batch.

    Args:
        method: The method's settings.
        cache: The cache's spec; None for cross-entropy alone.
        head: The teacher's output head, for final_hidden.
        vocabulary: The student's, where it is trimmed: labels and logits are in it, targets in
            the full one. Losses then compare classes, with all dropped tokens as one class;
            cross-entropy and the sparse forward KL are over the full vocabulary (see
            `distill.models.vocabulary`).
        shared_ids: For spans, the student's id of each token of both vocabularies, by the
            teacher's.

    Raises:
        UserError: The embedding loss is to use a head that cannot become the student's.
    """

    def __init__(
        self,
        method: Mapping[str, Any],
        cache: Mapping[str, Any] | None = None,
        head: OutputHead | None = None,
        vocabulary: Vocabulary | None = None,
        shared_ids: Mapping[int, int] | None = None,
    ) -> None:
        self.method, self.cache, self.head = method, cache, head
        self.vocabulary = vocabulary
        self.excluded = list[int]()
        """Ids without a token in dense targets; those of hidden states are the head's."""
        pairs = sorted((shared_ids or {}).items())
        self.shared_ids = torch.tensor(pairs, dtype=torch.long).view(-1, 2)
        self.soft = soft_losses(method)
        self.needs_states = bool(method["hidden"] or method["embedding"])
        if cache is not None:
            scorer = cache["scorers"][0]
            self.decoding = Decoding(scorer["temperature"], scorer["top_k"], scorer["top_p"])
        if self.borrows_head and head is not None and not head.is_matrix:
            raise UserError(
                "embedding.head: teacher needs an output head that is a matrix alone, but the "
                "teacher's has a bias, a scale or a soft cap; use head: own with some ce"
            )

    @property
    def reads_targets(self) -> bool:
        """Whether batches must carry soft targets."""
        return bool(self.soft) or self.needs_states

    @property
    def borrows_head(self) -> bool:
        """Whether the trained student's head is the teacher's on projected states."""
        entry = self.method["embedding"]
        return bool(entry) and entry["head"] == "teacher"

    def borrowed(self, projections: torch.nn.ModuleDict, states: torch.Tensor) -> torch.Tensor:
        """Logits of such a student [tokens, vocabulary] from its final hidden states."""
        assert self.head is not None
        projected = projections["embedding"](states)
        return torch.nn.functional.linear(projected, self.head.weight.to(projected.dtype))

    def projections(self, student_width: int, layer_width: int) -> torch.nn.ModuleDict:
        """Learned projections from the student's width to the teacher's, to be trained with it."""
        layers = torch.nn.ModuleDict()
        if self.method["hidden"]:
            for student_layer in self.method["hidden"]["layers"]:
                layers[f"layer_{student_layer}"] = torch.nn.Linear(student_width, layer_width)
        if self.method["embedding"]:
            assert self.head is not None
            layers["embedding"] = torch.nn.Linear(
                student_width, self.head.weight.shape[1], bias=False
            )
            if student_width == self.head.weight.shape[1]:  # begin where a cut student is right
                torch.nn.init.eye_(layers["embedding"].weight)
        return layers

    def logit_positions(self, batch: Mapping[str, Any]) -> torch.Tensor:
        """Positions [batch, length] whose logits are needed: none to match hidden states alone."""
        mask = batch["shift_labels"] != -100
        if self.method["ce"] == 0:
            mask = torch.zeros_like(mask)
        return mask | batch["soft_mask"] if self.soft else mask

    def counts(self, batches: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        """Answer tokens and tokens with soft targets of all micro-batches of a batch."""
        answers = sum(int((batch["shift_labels"] != -100).sum()) for batch in batches)
        soft = sum(int(batch["soft_mask"].sum()) for batch in batches if "soft_mask" in batch)
        return {"answer": answers, "soft": soft}

    def __call__(
        self,
        logits: torch.Tensor,
        states: Sequence[torch.Tensor] | None,
        projections: torch.nn.ModuleDict | None,
        batch: Mapping[str, Any],
        counts: Mapping[str, int],
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of a micro-batch, and each term unweighted (nats per token; T^2 not in it).

        Args:
            logits: [kept positions, vocabulary], in the order of `kept`.
            states: The student's hidden states per layer [batch, length, width], if needed.
            projections: From `projections`, if needed.
            batch: From `TargetReader.collate` or `collate`.
            counts: From `counts`, of the whole batch.
        """
        method, terms = self.method, {}
        keep = self.logit_positions(batch)
        labels = batch["shift_labels"][keep]
        answers = labels != -100
        loss = logits.new_zeros((), dtype=torch.float32)
        merged = self._merges()
        ids = labels.clamp_min(0).unsqueeze(1)
        share = answers.float().unsqueeze(1) / counts["answer"]
        if merged:  # one softmax serves cross-entropy and the sparse forward KL
            weights = self._spread(batch, keep, batch["p"]) / counts["soft"]
            ids = torch.cat([ids, self._spread(batch, keep, self._ids(batch))], 1)
            both = torch.cat([method["ce"] * share, method["forward_kl"] * weights], 1)
            loss, nll = self._sparse(logits, ids, both)
            if method["ce"] > 0:
                terms["ce"] = (nll[:, :1] * share).sum()
            entropy = self._entropy(batch).sum() / counts["soft"]
            loss = loss - method["forward_kl"] * entropy
            terms["forward_kl"] = (nll[:, 1:] * weights).sum() - entropy
        elif method["ce"] > 0:
            loss, nll = self._sparse(logits, ids, method["ce"] * share)
            terms["ce"] = (nll * share).sum()
        if others := [name for name in self.soft if not (merged and name == "forward_kl")]:
            soft = batch["soft_mask"][keep]
            at = logits if bool(soft.all()) else logits[soft]
            tokens = max(counts["soft"], 1)  # a batch may have no aligned span
            for name in others:
                scale = method[name] * method["temperature"] ** 2 / tokens
                part, each = self._soft(name, at, batch, scale)
                loss = loss + part
                terms[name] = each.sum() / tokens
        if states is not None and projections is not None:
            for name, part in self._matched(states, projections, batch):
                value = part.sum() / counts["soft"]
                loss = loss + method[name]["weight"] * value
                terms[name] = value.detach()
        return loss, terms

    def _merges(self) -> bool:
        """Whether forward KL is a weighted cross-entropy at T = 1, to be merged with CE."""
        return (
            "forward_kl" in self.soft
            and self.method["temperature"] == 1
            and self.cache is not None
            and self.cache["scheme"] in ("top_k", "sampled")
        )

    def _ids(self, batch: Mapping[str, Any]) -> torch.Tensor:
        """The targets' ids in the student's vocabulary."""
        ids: torch.Tensor = batch["ids"]
        return ids if self.vocabulary is None else self.vocabulary.ids.to(ids.device)[ids]

    def _sparse(
        self,
        logits: torch.Tensor,
        ids: torch.Tensor,
        weights: torch.Tensor,
        temperature: float = 1.0,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`sparse_cross_entropy` over the full vocabulary."""
        loss, nll = sparse_cross_entropy(logits, ids, weights, temperature)
        if self.vocabulary is None:
            return loss, nll
        extra = self.vocabulary.nats(ids)
        return loss + (weights * extra).sum(), nll + extra

    def _spread(self, batch: Mapping[str, Any], keep: torch.Tensor, packed: Any) -> Any:
        """Rows of targets at the kept positions; zeros where a kept position has none."""
        soft = batch["soft_mask"][keep]
        if bool(soft.all()):
            return packed
        spread = packed.new_zeros(len(soft), packed.shape[1])
        spread[soft] = packed
        return spread

    def _entropy(self, batch: Mapping[str, Any]) -> torch.Tensor:
        """What a forward KL subtracts per token: of the renormalised top-k its own entropy, of
        draws the teacher's."""
        assert self.cache is not None
        if self.cache["scheme"] == "sampled":
            entropy: torch.Tensor = batch["entropy"]
            return entropy
        return -torch.special.xlogy(batch["p"], batch["p"]).sum(1)

    def _teacher(self, batch: Mapping[str, Any], rows: slice) -> torch.Tensor:
        """log p_T float32 [rows, vocabulary] of the teacher."""
        temperature = self.method["temperature"]
        if "states" in batch:
            assert self.head is not None
            states = batch["states"][rows]
            with torch.autocast(states.device.type, enabled=False):  # q in the teacher's precision
                drawn = batch["drawn"][rows] if "drawn" in batch else None
                logs = teacher_log_q(self.head, states, self.decoding, drawn)
            if temperature != 1:
                logs = torch.log_softmax(logs / temperature, -1)
        else:
            logs = batch["p"][rows].log()  # dense targets come at the temperature
        return logs if self.vocabulary is None else self.vocabulary.coarse(logs)

    def _teacher_logits(self, batch: Mapping[str, Any], rows: slice) -> torch.Tensor:
        """The teacher's logits [rows, vocabulary]."""
        assert self.head is not None
        states = batch["states"][rows]
        with torch.autocast(states.device.type, enabled=False):  # in the teacher's precision
            return self.head.logits(states.to(self.head.weight.device))

    def _soft(
        self, name: str, logits: torch.Tensor, batch: Mapping[str, Any], scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One soft loss and its value per token (spans: per token or span)."""
        assert self.cache is not None
        if name == "spans":
            return self._spans(logits, batch, scale)
        scheme, temperature = self.cache["scheme"], self.method["temperature"]
        weights = torch.full((len(logits),), scale, device=logits.device)
        if scheme in ("final_hidden", "dense"):
            teacher = partial(self._teacher, batch)
            if name == "uld":
                return uld(logits, teacher, weights, temperature)
            classes, theirs = None, None
            if DIVERGENCES[name].infinite_with(self.method):
                classes = self._tokens(batch, logits)
            if "states" in batch and self.vocabulary is None and not self.decoding.cuts:
                teacher = partial(self._teacher_logits, batch)
                theirs = self.decoding.temperature * temperature
            return dense_divergence(
                logits, teacher, self._divergence(name), weights, temperature, theirs, classes
            )
        if scheme == "top_k_tail":
            if name == "uld":
                return coarse_uld(logits, batch["p"], batch["tail"], weights, temperature)
            least = -math.inf
            if DIVERGENCES[name].infinite_with(self.method):
                least = SMALLEST  # what a stored 0 may stand for
            return coarse_divergence(
                logits,
                batch["ids"],
                batch["p"].log().clamp_min(least),
                batch["tail"].log().clamp_min(least),
                self._divergence(name),
                weights,
                temperature,
            )
        loss, nll = self._sparse(
            logits, self._ids(batch), batch["p"] * weights.unsqueeze(1), temperature
        )
        entropy = self._entropy(batch)
        return loss - (weights * entropy).sum(), (nll * batch["p"]).sum(1) - entropy

    def _spans(
        self, logits: torch.Tensor, batch: Mapping[str, Any], scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of aligned spans, and its value per span.

        A span that is one token of both vocabularies: `shared_kl` of that token. Any other:
        `likelihood_gap` of its text.
        """
        temperature, single = self.method["temperature"], batch["single"]
        student_single, teacher_single = single[batch["own_spans"]], single[batch["their_spans"]]
        targets = {name: batch[name] for name in ("states", "p") if name in batch}
        one = {name: rows[teacher_single] for name, rows in targets.items()}
        many = {name: rows[~teacher_single] for name, rows in targets.items()}
        pairs = self.shared_ids.to(logits.device)
        pairs = pairs[(pairs[:, 0] < self._width(batch)) & (pairs[:, 1] < logits.shape[1])]
        shared = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
        shared[pairs[:, 1]] = True

        def teacher(rows: slice) -> torch.Tensor:
            """log p in the student's tokens."""
            logs = self._teacher(one, rows)
            turned = logs.new_full((len(logs), len(shared)), -torch.inf)
            turned[:, pairs[:, 1]] = logs[:, pairs[:, 0]]
            return turned

        weights = torch.full((len(single),), scale, device=logits.device)
        loss, each = dense_divergence(
            logits[student_single],
            teacher,
            partial(shared_kl, shared=shared),
            weights[single],
            temperature,
        )
        number = (~single).cumsum(0) - 1  # among the spans that are not a single token
        ids = batch["their_ids"][~teacher_single]
        places = number[batch["their_spans"]][~teacher_single]
        log_p = torch.zeros(len(single) - len(each), device=logits.device)
        for start in range(0, len(ids), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            logs = self._teacher(many, rows).gather(1, ids[rows].unsqueeze(1)).squeeze(1)
            log_p.index_add_(0, places[rows], logs)
        labels = batch["shift_labels"][batch["soft_mask"]]
        gap, nats = likelihood_gap(
            logits[~student_single],
            labels[~student_single],
            number[batch["own_spans"]][~student_single],
            log_p,
            weights[~single],
            temperature,
        )
        return loss + gap, torch.cat([each, nats])

    def _width(self, batch: Mapping[str, Any]) -> int:
        """Width of the teacher's distribution, in the student's vocabulary."""
        if self.vocabulary is not None:
            return self.vocabulary.width
        if "states" in batch:
            assert self.head is not None
            return len(self.head.weight)
        return int(batch["p"].shape[1])

    def _tokens(self, batch: Mapping[str, Any], logits: torch.Tensor) -> torch.Tensor | None:
        """Ids of the student that are tokens of the teacher; None if all are."""
        if self.vocabulary is not None:  # the class of dropped tokens has all others
            return None
        width, theirs = logits.shape[1], self._width(batch)
        excluded = self.head.excluded if self.head and "states" in batch else self.excluded
        tokens = torch.ones(max(width, theirs), dtype=torch.bool)
        tokens[excluded] = False
        tokens[theirs:] = False
        if bool(tokens[:width].all()):
            return None
        return tokens[:width].nonzero().squeeze(1).to(logits.device)

    def _divergence(self, name: str) -> Any:
        if parameter := DIVERGENCES[name].parameter:
            return partial(FUNCTIONS[name], **{parameter.name: self.method[parameter.key]})
        return FUNCTIONS[name]

    def _matched(
        self,
        states: Sequence[torch.Tensor],
        projections: torch.nn.ModuleDict,
        batch: Mapping[str, Any],
    ) -> Any:
        """Distances of hidden states per token, by loss."""
        mask = batch["soft_mask"]
        if entry := self.method["hidden"]:
            assert self.cache is not None
            places = {layer: place for place, layer in enumerate(self.cache["hidden"]["layers"])}
            each = [
                MATCH[entry["loss"]](
                    projections[f"layer_{student}"](
                        states[-1 if student == LAST else int(student)][mask]
                    ),
                    batch["layers"][:, places[int(teacher)]],
                )
                for student, teacher in entry["layers"].items()
            ]
            yield "hidden", torch.stack(each).mean(0)
        if entry := self.method["embedding"]:
            projected = projections["embedding"](states[-1][mask])
            yield "embedding", MATCH[entry["loss"]](projected, batch["states"])
