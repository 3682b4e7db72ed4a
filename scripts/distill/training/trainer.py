"""transformers' Trainer with a method's loss, over one process or several."""

import math
import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import SeedableRandomSampler
from safetensors.torch import load_file, save_file
from transformers import Trainer, TrainerState

from distill.contracts.energy import UNKNOWN, Energy, energy_of
from distill.core.files import write_json
from distill.models.flops import FlopModel
from distill.models.forward import bare, run_model
from distill.runtime.memory import job_peak
from distill.runtime.meter import Meter
from distill.training.batch_sharing import Share, shared_loader
from distill.training.batches import TargetReader
from distill.training.checkpoints import CHECKSUMS, STATE, checksums_of
from distill.training.losses import cross_entropy
from distill.training.objective import Objective
from distill.training.on_policy import LOGGED, LiveTeacher

PROJECTIONS = "distillation_projections"
"""Name of the module with learned projections, inside the student while it is trained."""
ELAPSED = "elapsed"
"""Key of an update's log entry: seconds of training so far, those of earlier tries included."""
ENERGY = "energy_"
"""Prefix of an update's log entries: the energy so far, likewise; none where it is unknown."""


class DistillationTrainer(Trainer):
    """Trainer whose loss is the method's, with the logits of the needed tokens only."""

    # compute_loss divides by the token counts of the whole batch, so nothing is left to scale.
    loss_is_scaled_for_ga = True
    control: Any

    def __init__(
        self,
        objective: Objective,
        reader: TargetReader | None,
        precision: str,
        flop_model: FlopModel,
        live: LiveTeacher | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.objective, self.reader, self.live = objective, reader, live
        self.precision, self.flop_model = precision, flop_model
        self.counts: dict[str, int] = {}
        self.work: dict[str, int] = {}
        self.terms: dict[str, torch.Tensor] = {}
        self.began, self.meter, self.earlier = time.perf_counter(), Meter(), Energy()

    def compute_loss_context_manager(self) -> Any:
        """bf16 autocast around the forward pass and the loss.

        The library's own flag converts all outputs to fp32, which on CPU cost a quarter of a step:
        a float32 copy of the logits and one of their gradient.
        """
        if self.precision == "bf16":
            return torch.autocast(self.args.device.type, dtype=torch.bfloat16)
        return super().compute_loss_context_manager()

    def settings(self) -> str:
        """What was chosen for this machine, for the log."""
        args, model = self.args, bare(self.accelerator.unwrap_model(self.model))
        return (
            f"device {args.device}, precision {self.precision}, attention "
            f"{model.config._attn_implementation}, optimizer {args.optim.value}, "
            f"{args.per_device_train_batch_size} rows x {args.gradient_accumulation_steps} "
            f"an update, {torch.get_num_threads()} threads"
        )

    def over_processes(self, numbers: list[Any]) -> list[Any]:
        """Each number, summed over processes."""
        if self.args.world_size == 1 or not numbers:
            return numbers
        kind = torch.float64 if isinstance(numbers[0], float) else torch.int64
        mine = torch.tensor([numbers], dtype=kind, device=self.args.device)
        summed: list[Any] = self.accelerator.gather(mine).sum(0).tolist()
        return summed

    def peak_memory(self) -> dict[str, Any]:
        """As `job_peak`, summed over processes, all of which have then ended their last update."""
        peak = job_peak()
        return peak | {"peak_memory_mb": self.over_processes([peak["peak_memory_mb"]])[0]}

    def energy(self) -> Energy:
        """Energy of training so far, all processes and earlier tries together."""
        energy = self.meter.total().energy
        parts = [math.nan if part is None else part for part in (energy.kwh, energy.estimated)]
        kwh, estimated = self.over_processes(parts)
        return self.earlier + (UNKNOWN if math.isnan(kwh) else Energy(kwh, estimated))

    def _share(self, order: Any, size: int) -> Share:
        return Share(order, size, self.args.world_size, self.args.process_index)

    def get_train_dataloader(self) -> Any:
        """Several processes share the rows of each update, in the order that one would take."""
        if self.args.world_size == 1:
            return super().get_train_dataloader()
        rows: Any = self.train_dataset
        order = SeedableRandomSampler(rows, data_seed=self.args.data_seed)
        share = self._share(order, self.args.per_device_train_batch_size)
        return shared_loader(rows, share, self.data_collator)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Several processes share the held-out rows."""
        if self.args.world_size == 1:
            return super().get_eval_dataloader(eval_dataset)
        rows: Any = self.eval_dataset
        share = self._share(range(len(rows)), self.args.per_device_eval_batch_size)
        return shared_loader(rows, share, self.data_collator)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """The micro-batches of one update, whose tokens are counted together."""
        batches, work = list(islice(epoch_iterator, num_batches)), dict[str, int]()
        if self.live is not None:
            batches, self.objective, work = self.live.update(
                self.accelerator.unwrap_model(self.model),
                self.flop_model,
                [batch["items"] for batch in batches],
                self.state.global_step,
                self.compute_loss_context_manager(),
            )
        counts = self.objective.counts(batches) | work
        counts = dict(zip(counts, self.over_processes(list(counts.values())), strict=True))
        self.counts, self.work = counts, {name: counts[name] for name in work}
        return batches, None

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> Any:
        """The method's loss over the tokens of all micro-batches of the update."""
        needs_states = self.objective.needs_states
        output = run_model(
            model,
            self.objective.logit_positions(inputs),
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            output_hidden_states=needs_states,
        )
        loss, terms = self.objective(
            output.logits,
            output.hidden_states if needs_states else None,
            getattr(self.accelerator.unwrap_model(model), PROJECTIONS, None),
            inputs,
            self.counts,
        )
        for name, value in terms.items():
            self.terms[name] = self.terms.get(name, 0.0) + value.detach()
        if self.args.world_size > 1:
            if not len(output.logits):  # each parameter takes part in every process
                loss = loss + output.logits.sum()
            loss = loss * self.args.world_size  # gradients are averaged over processes
        return (loss, output) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log every term beside the loss (logging is once per update)."""
        if "loss" in logs:
            terms = self.over_processes([float(value) for value in self.terms.values()])
            logs |= {f"terms/{name}": value for name, value in zip(self.terms, terms, strict=True)}
            logs |= {LOGGED + name: number for name, number in self.work.items()}
            logs[ELAPSED] = time.perf_counter() - self.began
            used = self.energy().columns(ENERGY).items()
            logs |= {name: number for name, number in used if number is not None}
            self.terms = {}
            if not math.isfinite(logs["loss"]):
                self.control.should_training_stop = True  # no later update could mend the weights
        super().log(logs, start_time)

    def train(self, resume_from_checkpoint: Any = None, **settings: Any) -> Any:
        """Train, or load the checkpoint of a training run that had ended.

        The library would resume a training run that had stopped early.
        """
        self.began, self.meter, self.earlier = time.perf_counter(), Meter(), Energy()
        if resume_from_checkpoint:
            state = TrainerState.load_from_json(str(Path(resume_from_checkpoint) / STATE))
            logged = [entry for entry in state.log_history if ELAPSED in entry]
            self.began -= max((entry[ELAPSED] for entry in logged), default=0.0)
            self.earlier = energy_of(logged[-1], ENERGY) if logged else Energy()
            control = state.stateful_callbacks.get("TrainerControl", {})
            if control.get("args", {}).get("should_training_stop"):
                self.state = state
                self._load_from_checkpoint(resume_from_checkpoint)
                if self.args.load_best_model_at_end and state.best_model_checkpoint:
                    self._load_best_model()
                return None
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **settings)

    @torch.no_grad()
    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Unweighted cross-entropy at temperature 1 on validation answers, nats per token.

        The library's own loop would average the means of batches.
        """
        self.model.eval()
        nats, tokens = 0.0, 0
        borrowed = self.objective.borrows_head
        for inputs in self.get_eval_dataloader():
            inputs = self._prepare_inputs(inputs)
            keep = inputs["shift_labels"] != -100
            with self.compute_loss_context_manager():
                output = run_model(
                    self.model,
                    keep,
                    input_ids=inputs["input_ids"],
                    attention_mask=inputs["attention_mask"],
                    output_hidden_states=borrowed,
                )
                logits = output.logits
                if borrowed:  # the head that the student is saved with
                    projections = getattr(self.model, PROJECTIONS)
                    logits = self.objective.borrowed(projections, output.hidden_states[-1][keep])
            labels = inputs["shift_labels"][keep]
            nats += float(cross_entropy(logits, labels, 1.0))
            if self.objective.vocabulary is not None:
                nats += float(self.objective.vocabulary.nats(labels).sum())
            tokens += int(keep.sum())
        self.model.train()
        nats, tokens = self.over_processes([nats, float(tokens)])
        metrics = {"eval_loss": nats / tokens}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Projections get a separate file: an adapter's checkpoint would leave them out."""
        super()._save(output_dir, state_dict)
        projections = getattr(self.model, PROJECTIONS, None)
        if projections is not None and self.args.should_save:
            save_file(
                projections.state_dict(), Path(output_dir or ".") / f"{PROJECTIONS}.safetensors"
            )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """The list of checksums comes last: what a kill leaves has none."""
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # each process writes its own file
        if self.args.should_save:
            last = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
            write_json(last / CHECKSUMS, checksums_of(last))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if (projections := getattr(self.model, PROJECTIONS, None)) is not None:
            file = Path(resume_from_checkpoint) / f"{PROJECTIONS}.safetensors"
            projections.load_state_dict(load_file(file))

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if (projections := getattr(self.model, PROJECTIONS, None)) is not None:
            file = Path(str(self.state.best_model_checkpoint)) / f"{PROJECTIONS}.safetensors"
            projections.load_state_dict(load_file(file))
