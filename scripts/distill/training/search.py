"""Search numeric settings of a method and of training: Optuna's TPE with median pruning.

The objective is that of early stopping: unweighted cross-entropy at temperature 1 on validation
answers, never the weighted training loss, which a search over weights would only shrink. A killed
search resumes from its journal; its trials are the same as if it had not been killed.
"""

import hashlib
import logging
import math
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from transformers import TrainerCallback

from distill.core.errors import UserError
from distill.core.files import sha256_of, write_json
from distill.core.keys import digest
from distill.training.build import build_trainer
from distill.training.checkpoints import prepare_folder
from distill.training.micro_batch import fitting_micro_batch, mark_running, micro_batch
from distill.training.run import check_inputs, diverged, with_settings

_DONE = (TrialState.COMPLETE, TrialState.PRUNED)


class _Report(TrainerCallback):
    """Tell the trial each validation loss, and stop training when it is pruned."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial, self.pruned = trial, False
        self.losses: list[float] = []

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **_: Any) -> Any:
        """Report, and ask the pruner."""
        self.losses.append(metrics["eval_loss"])
        self.trial.report(metrics["eval_loss"], state.global_step)
        if self.trial.should_prune():
            self.pruned = control.should_training_stop = True
        return control


def _suggest(trial: optuna.Trial, space: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for key, bounds in space.items():
        section, _, name = key.partition(".")
        low, high, log = bounds["low"], bounds["high"], bounds["log"]
        if isinstance(spec[section][name], int):
            settings[key] = trial.suggest_int(key, round(low), round(high), log=log)
        else:
            settings[key] = trial.suggest_float(key, low, high, log=log)
    return settings


def _sampler(spec: dict[str, Any], number: int) -> optuna.samplers.TPESampler:
    """A sampler seeded by the trial's number, so that going on is the same as never stopping."""
    digest = hashlib.sha256(f"{spec['seed']}:{number}".encode()).digest()
    return optuna.samplers.TPESampler(
        n_startup_trials=spec["startup_trials"], seed=int.from_bytes(digest[:4], "big")
    )


def _least(losses: Iterable[float]) -> float | None:
    """The least finite loss, None if there is none."""
    return min((loss for loss in losses if math.isfinite(loss)), default=None)


def _mend_journal(journal: Path) -> None:
    """Remove what a killed search left of its journal: a lock, and the beginning of a line."""
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    if journal.is_file():
        os.truncate(journal, journal.read_bytes().rfind(b"\n") + 1)


def _open_study(journal: Path, startup_trials: int) -> optuna.Study:
    """The search's study, with the trials that its journal holds; those left by a kill failed.

    Raises:
        UserError: The journal is damaged.
    """
    _mend_journal(journal)
    try:
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal))),
            study_name="search",
            direction="minimize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=startup_trials),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{journal} is damaged ({type(error).__name__}: {error}); delete {journal.parent} and "
            "run the workflow again, which restarts that search"
        ) from None
    for orphan in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        study.tell(orphan.number, state=TrialState.FAIL)  # left by a killed job
    return study


def _finish_trial(
    study: optuna.Study,
    trial: optuna.Trial,
    trainer: Any,
    report: _Report,
    stopping: Any,
    start: float,
) -> float:
    """Tell the study how a trial ended; returns its loss."""
    loss = math.inf
    if not diverged(trainer.state):
        loss = min(report.losses) if stopping else report.losses[-1]
    trial.set_user_attr("seconds", time.perf_counter() - start)
    trial.set_user_attr("energy", trainer.energy().columns("energy_"))
    trial.set_user_attr("updates", trainer.state.global_step)
    if report.pruned or not math.isfinite(loss):
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, loss)
    return loss


def _record(study: optuna.Study, spec: dict[str, Any]) -> dict[str, Any]:
    """The content of best.json.

    Raises:
        UserError: No trial ended with a finite loss.
    """
    trials = study.get_trials(deepcopy=False, states=_DONE)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        raise UserError(
            f"no trial of the search over {', '.join(spec['space'])} ended with a finite loss; "
            "narrow its space, in particular the learning rate"
        )
    best = min(complete, key=lambda trial: (float(trial.value or 0.0), trial.number))
    return {
        "schema": 1,
        "spec": spec,
        "settings": best.params,
        "loss": best.value,
        "trials": [
            {
                "trial": number,
                "pruned": trial.state == TrialState.PRUNED,
                "loss": _least(
                    [trial.value]
                    if trial.value is not None and trial.state == TrialState.COMPLETE
                    else trial.intermediate_values.values()
                ),
                "settings": trial.params,
                "updates": trial.user_attrs["updates"],
                "seconds": trial.user_attrs["seconds"],
                **trial.user_attrs["energy"],
                "best": trial.number == best.number,
            }
            for number, trial in enumerate(trials)
        ],
    }


def search_settings(
    initial: str | Path,
    shard: str | Path,
    out: str | Path,
    spec: dict[str, Any],
    student: str,
    tag: str,
    heads: Sequence[str | Path],
    validation: Sequence[str | Path],
    teacher: str | Path | None = None,
    attempt: int = 1,
    tokens_of: str | Path | None = None,
) -> None:
    """Run the trials of a search and write its best settings.

    Args:
        initial: Directory of the student before training.
        shard: Its training data.
        out: `best.json`: settings, loss and every trial.
        spec: formatting, method, train, shard, space, trials, startup_trials and seed.
        student: The student's name, for errors.
        tag: Names spec, data and code; a journal with another tag is cleared.
        heads: The teacher's output head, for a final_hidden cache.
        validation: Held-out text that trials are evaluated on.
        teacher: Directory of the teacher's model, for spans or for live targets.
        attempt: Which of the workflow's tries this is; see `distill.training.micro_batch`.
        tokens_of: Directory with the text's tokenizer, if it is not that of the student's source.

    Raises:
        UserError: Memory ran out, no trial ended with a finite loss, or a file is damaged.
    """
    check_inputs(initial, shard)
    resume = prepare_folder(Path(out).parent, tag)
    study = _open_study(resume / "journal.log", spec["startup_trials"])
    while (done := len(study.get_trials(deepcopy=False, states=_DONE))) < spec["trials"]:
        study.sampler = _sampler(spec, done)
        trial = study.ask()
        settings = _suggest(trial, spec["space"], spec)
        start, report = time.perf_counter(), _Report(trial)
        with fitting_micro_batch(resume, tag, spec["train"], student, attempt=attempt) as rows:
            fewer = {"train.micro_batch_size": rows} if rows < micro_batch(spec["train"]) else {}
            trainer = build_trainer(
                initial,
                shard,
                with_settings(spec, fewer | settings),
                student,
                resume / "trial",
                heads,
                validation,
                callbacks=[report],
                keep=False,
                teacher=teacher,
                tokens_of=tokens_of,
            )
            mark_running(resume)
            trainer.train()
        attempt = 1  # a mark left by the last try has been heeded
        stopping = spec["train"]["early_stopping"]
        loss = _finish_trial(study, trial, trainer, report, stopping, start)
        logging.info("trial %d of %d: %s, loss %.4f", done + 1, spec["trials"], settings, loss)
    write_json(out, _record(study, spec))


def search_from_files(
    initial: str | Path,
    shard: str | Path,
    out: str | Path,
    spec: dict[str, Any],
    student: str,
    code: str,
    heads: Sequence[str | Path],
    validation: Sequence[str | Path],
    teacher: str | Path | None = None,
    attempt: int = 1,
    tokenizer: str | Path | None = None,
) -> None:
    """Search the best settings of a method for one student and shard; see `search_settings`.

    Args:
        initial: A file in the directory of the student before training.
        code: Digest of the code: a journal of other code, spec or data is cleared.
        teacher: A file in the directory of the teacher's model, for spans or for live targets.
        tokenizer: A file in the directory of the text's tokenizer, if it is not that of the
            student's source.
        shard, out, spec, student, heads, validation, attempt: As of `search_settings`.
    """
    read = [path for path in (shard, *validation, teacher, tokenizer) if path is not None]
    search_settings(
        Path(initial).parent,
        shard,
        out,
        spec,
        student,
        tag=digest([spec, code, [sha256_of(path) for path in read]]),
        heads=heads,
        validation=validation,
        teacher=Path(teacher).parent if teacher else None,
        attempt=attempt,
        tokens_of=Path(tokenizer).parent if tokenizer else None,
    )
