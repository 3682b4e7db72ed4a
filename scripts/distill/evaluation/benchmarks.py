"""Tasks of lm-evaluation-harness (Gao et al. 2024, "A framework for few-shot language model
evaluation"): load one with its data, and score a model on it.

A score that is a mean keeps each document's value, so that two models can be compared document by
document. No remote code is run: no model's, no metric's from the hub, and none that a model wrote.
"""

import difflib
import hashlib
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from traceback import walk_tb
from typing import Any

import evaluate
import nltk
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.tasks import TaskManager
from transformers import AutoConfig

from distill.core.addresses import without_secrets
from distill.core.checksums import SAFE
from distill.core.errors import UserError
from distill.core.files import write_json
from distill.models.opening import load_model, load_teacher, resolve_precision
from distill.models.tokenizers import load_tokenizer
from distill.runtime.device import hardware
from distill.runtime.environment import git_revision, versions
from distill.runtime.out_of_memory import memory_hint

evaluate.config.HF_EVALUATE_OFFLINE = True  # its metrics are programs on the hub
RESAMPLES = 1000
"""Bootstrap resamples, for the standard error of scores that are not means."""
CHOSEN = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info")
"""Metrics of multiple choice that guessing gets right once in as many times as there are
choices."""
CONTEXT = 2048
"""Tokens of context of a model whose config does not say."""


@dataclass(frozen=True)
class Loaded:
    """A task with its data.

    Attributes:
        task: The harness's task or group of tasks.
        parts: The tasks that documents belong to, by name; of a task by itself, only that.
        manager: The harness's own index.
    """

    task: Any
    parts: Mapping[str, Any]
    manager: Any


class _Counting(HFLM):
    """A model that counts the prompts that its context truncates at the start."""

    cut = 0

    def _loglikelihood_tokens(self, requests: Any, *args: Any, **kwargs: Any) -> Any:
        self.cut += sum(len(one) + len(two) > self.max_length + 1 for _, one, two in requests)
        return super()._loglikelihood_tokens(requests, *args, **kwargs)

    def tok_batch_encode(self, strings: Any, *args: Any, **kwargs: Any) -> Any:
        if limit := kwargs.get("left_truncate_len"):
            self.cut += sum(len(self.tok_encode(text)) > limit for text in strings)
        return super().tok_batch_encode(strings, *args, **kwargs)


def load_task(spec: Mapping[str, Any]) -> Loaded:
    """Load a task with its data: from the cache, or from the hub unless offline.

    Args:
        spec: task (its name), include (folder of your own tasks, or None), metric, fewshot.

    Raises:
        UserError: There is no such task, its data cannot be loaded, it would run programs that a
            model wrote, or it has no score as asked for.
    """
    name, folder = spec["task"], spec["include"]
    where = f"evaluate.benchmarks.{name}"
    manager = TaskManager(include_path=folder, include_defaults=folder is None)
    entry = manager.task_index.get(name)
    if entry is None:
        close = difflib.get_close_matches(name, manager.all_tasks, 3)
        hint = f"did you mean {' or '.join(close)}?" if close else "see `lm_eval ls tasks`"
        place = f"the folder {folder}" if folder else "lm-evaluation-harness"
        raise UserError(f"{where}: {place} has no task of this name; {hint}")
    if (entry.cfg or {}).get("unsafe_code"):
        raise UserError(f"{where}: {_UNSAFE}")
    try:
        loaded = manager.load([name])
    except ImportError as error:
        raise UserError(
            f"{where}: the task needs a package that is not installed ({error}); add it to "
            "envs/harness.yaml and envs/requirements.txt, or name another task"
        ) from error
    except Exception as error:  # hub, cache and file readers each have their own errors
        modules = (frame.f_globals["__name__"] for frame, _ in walk_tb(error.__traceback__))
        if "datasets.load" not in modules:
            raise
        reason = without_secrets(str(error))
        raise UserError(
            f"{where}: its data cannot be loaded ({type(error).__name__}: {reason}); let this "
            "machine reach the hub once (without HF_HUB_OFFLINE and HF_DATASETS_OFFLINE) or copy a "
            "filled cache (HF_HOME) to it, or remove the task from the config"
        ) from error
    task = loaded["groups"].get(name) or loaded["tasks"].get(name)
    loaded_task = Loaded(task, loaded["tasks"], manager)
    _check(where, loaded_task, spec)
    return loaded_task


_UNSAFE = (
    "the task runs programs that the model wrote, which is never done here; remove it from the "
    "config"
)


def _check(where: str, loaded: Loaded, spec: Mapping[str, Any]) -> None:
    """Check that a task can be evaluated as configured."""
    parts = list(loaded.parts.values())
    if any(getattr(part, "UNSAFE_CODE", False) for part in parts):
        raise UserError(f"{where}: {_UNSAFE}")
    aggregated = getattr(loaded.task, "aggregate_metric_list", None)
    if loaded.task is None or (loaded.task not in parts and not aggregated):
        raise UserError(
            f"{where}: this is a group of tasks without an aggregated score; name its tasks: "
            f"{', '.join(loaded.parts)}"
        )
    known = {name for part in parts for name in part.aggregation()}
    if aggregated:
        known &= {entry.metric for entry in aggregated}
    if spec["metric"] is not None and spec["metric"].split(",")[0] not in known:
        raise UserError(
            f"{where}.metric: the task has no {spec['metric']!r}; it has {', '.join(sorted(known))}"
        )
    checkers = (part.get_config("process_results") for part in parts)
    if any(getattr(one, "__module__", "").endswith(".ifeval.utils") for one in checkers):
        try:  # what IFEval counts sentences with
            nltk.data.find("tokenizers/punkt_tab")
        except LookupError:
            raise UserError(
                f"{where}: its checks need NLTK's punkt_tab, which is not installed; run python -m "
                "nltk.downloader punkt_tab where there is a network, or copy it to a folder of "
                "NLTK_DATA, or remove the task from the config"
            ) from None
    fixed = [name for name, part in loaded.parts.items() if part.get_config("num_fewshot") == 0]
    if spec["fewshot"] and fixed:
        raise UserError(
            f"{where}.fewshot: the task file of {fixed[0]} sets num_fewshot: 0, which the harness "
            "follows; remove fewshot, or include a task file without that line"
        )


def prepare_benchmark(spec: dict[str, Any], out: str | Path) -> None:
    """Load a task with its data and record its description.

    Args:
        spec: Of the task, see `load_task`.
        out: Output, JSON.

    Raises:
        UserError: See `load_task`.
    """
    loaded = load_task(spec)
    documents = {name: len(part.eval_docs) for name, part in loaded.parts.items()}
    record = {
        "schema": 1,
        "spec": spec,
        "documents": documents,
        "configs": {name: part.dump_config() for name, part in loaded.parts.items()},
        "versions": _versions(),
    }
    logging.info("%s: %d documents", spec["task"], sum(documents.values()))
    write_json(out, plain(record))


def run_benchmark(model_file: str | Path, spec: dict[str, Any], out: str | Path) -> None:
    """Score a model on a task.

    Args:
        model_file: A file in the model's directory.
        spec: Of the task, see `load_task`, with limit and chat_template; batch_size, and
            precision; and scorer, how a teacher is run (without it the model is a student).
        out: Output, JSON.

    Raises:
        UserError: The task cannot be loaded, the model cannot take it, or memory ran out.
    """
    what = f"scoring {spec['batch_size']} documents at once"
    with memory_hint(what, "lower evaluate.batch_size"):
        start, folder = time.perf_counter(), Path(model_file).parent
        precision, tokenizer = resolve_precision(spec["precision"]), load_tokenizer(folder)
        config = AutoConfig.from_pretrained(folder, **SAFE)
        context = getattr(config, "max_position_embeddings", None) or CONTEXT
        if "scorer" in spec:
            settings = spec["scorer"] | {"precision": precision}
            model = load_teacher(folder, settings, sequence=context)
        else:
            model = load_model(folder, precision=precision, sequence=context)
        record = {
            "schema": 1,
            "spec": spec,
            **score_model(model, tokenizer, load_task(spec), spec, context),
            "precision": precision,
            "hardware": hardware(),
            "versions": _versions(),
            "git": git_revision(),
            "seconds": time.perf_counter() - start,
        }
    logging.info("%s %s: %s", spec["task"], record["metric"], record["value"])
    write_json(out, plain(record))


def score_model(
    model: Any, tokenizer: Any, loaded: Loaded, spec: Mapping[str, Any], context: int
) -> dict[str, Any]:
    """The score of a model in memory on a task.

    Args:
        model: In eval mode, on its device.
        tokenizer: Its tokenizer.
        loaded: The task.
        spec: task, metric, fewshot, limit, chat_template and batch_size.
        context: Most tokens that the model reads.

    Returns:
        metric, filter, value, stderr, higher_is_better, chance (what guessing scores; None where
        that is not known), n (documents), fewshot, version (the task's), cut (prompts that were
        longer than the context and lost their start), documents (the score of each, None where
        the value is not their mean), documents_sha256 (of questions and answers), and the
        harness's own results and config.

    Raises:
        UserError: The model's context or tokenizer does not allow the task, or the metric is not
            one of the task's.
    """
    name = spec["task"]
    where = f"evaluate.benchmarks.{name}"
    if spec["chat_template"] and not tokenizer.chat_template:
        raise UserError(
            f"{where}.chat_template: {tokenizer.name_or_path} has no chat template; set it to false"
        )
    lm = _Counting(
        pretrained=model,
        tokenizer=tokenizer,
        batch_size=spec["batch_size"],
        max_length=context,
        softmax_dtype="float32",  # else that of the weights: choices would tie in bf16
    )
    _check_room(where, loaded, lm, context)
    report = simple_evaluate(
        model=lm,
        tasks=[loaded.task],
        task_manager=loaded.manager,
        num_fewshot=spec["fewshot"],
        batch_size=spec["batch_size"],
        limit=spec["limit"],
        bootstrap_iters=RESAMPLES,
        apply_chat_template=spec["chat_template"],
    )
    scores = report["results"][name]
    key = _metric_key(where, scores, spec["metric"])
    metric, _, chosen = key.partition(",")
    samples = {
        part: [sample for sample in report["samples"][part] if sample["filter"] == chosen]
        for part in loaded.parts
    }
    value = float(scores[key])
    documents = _documents(samples, metric, value)
    content = [
        f"{s['doc_hash']} {s['target_hash']}"
        for part_samples in samples.values()
        for s in part_samples
    ]
    return {
        "metric": metric,
        "filter": chosen,
        "value": value,
        "stderr": plain(scores.get(f"{metric}_stderr,{chosen}")),
        "higher_is_better": report["higher_is_better"].get(name, {}).get(metric),
        "chance": _chance(loaded.parts, samples) if documents and metric in CHOSEN else None,
        "n": sum(map(len, samples.values())),
        "fewshot": report["n-shot"].get(name),
        "version": report["versions"].get(name),
        "cut": lm.cut,
        "documents": documents,
        "documents_sha256": hashlib.sha256("\n".join(content).encode()).hexdigest(),
        "results": report["results"],
        "config": report["config"],
    }


def _check_room(where: str, loaded: Loaded, lm: HFLM, context: int) -> None:
    """Check that the answers of a task's generation fit the model's context."""
    for part in loaded.parts.values():
        if part.OUTPUT_TYPE == "generate_until":
            generation = normalize_gen_kwargs(part.config.generation_kwargs, lm.max_gen_toks)
            if generation["max_gen_toks"] >= context:
                raise UserError(
                    f"{where}: the task may generate {generation['max_gen_toks']} tokens, but "
                    f"the context of {lm.tokenizer.name_or_path} is {context}; leave it out for "
                    "runs with this model (runs[].benchmarks), or include a task file with a "
                    "smaller max_gen_toks"
                )


def _metric_key(where: str, scores: Mapping[str, Any], requested: str | None) -> str:
    """The key of a metric among the harness's scores, `metric,filter`; the first by default."""
    keys = [key for key in scores if "," in key and not key.split(",")[0].endswith("_stderr")]
    fits = [key for key in keys if requested in (None, key, key.split(",")[0])]
    if not fits or (requested is not None and len(fits) > 1):
        raise UserError(f"{where}.metric: name one of {'; '.join(keys)}, not {requested!r}")
    return fits[0]


def _documents(
    samples: Mapping[str, Sequence[Mapping[str, Any]]], metric: str, value: float
) -> list[float] | None:
    """Each document's score, if the task's score is their mean."""
    values = [sample.get(metric) for part_samples in samples.values() for sample in part_samples]
    if not all(isinstance(one, (bool, int, float)) for one in values):
        return None
    scores = [float(one) for one in values if one is not None]
    same = math.isclose(math.fsum(scores) / len(scores), value, abs_tol=1e-9)
    return scores if same else None


def _chance(
    parts: Mapping[str, Any], samples: Mapping[str, Sequence[Mapping[str, Any]]]
) -> float | None:
    """Chance score on multiple choice: the mean over documents of 1 / choices."""
    odds = []
    for name, part in parts.items():
        if part.OUTPUT_TYPE != "multiple_choice" or getattr(part, "multiple_target", 0):
            return None
        odds += [1 / len(part.doc_to_choice(sample["doc"])) for sample in samples[name]]
    return math.fsum(odds) / len(odds)


def _versions() -> dict[str, str]:
    return versions() | {"lm_eval": metadata.version("lm_eval")}


def plain(value: Any) -> Any:
    """A record of the harness as plain JSON: other types become text or null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()  # a number of numpy's
    if value == "N/A" or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, (str, int, float, type(None))) else str(value)
