"""The text of a first config, with comments."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from distill.cli.first_study import EMBEDDED, Data, Model, Models


def config_text(study: str, data: Data, models: Models) -> str:
    """The config of a first study.

    Args:
        study: Its name.
        data: Its prompts.
        models: Its teacher and student.
    """
    lines = [
        "# Written by `distill init`; docs/reference/config.md describes every key.",
        f"study: {_flow(study)}",
        "task: instruction",
        "",
        *_sources(data, models),
        "",
        *_prompts(data, models),
        "",
        *_teachers(data, models),
        "",
        *_students(models),
        "",
        *_methods(models),
        "",
        *_training(models),
        "",
        *_runs(data, models),
    ]
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value, ensure_ascii=False)
    text = yaml.safe_dump(
        value, default_flow_style=True, width=10_000, sort_keys=False, allow_unicode=True
    )
    return text.removesuffix("\n...\n").strip()


def _entry(name: str, model: Model) -> list[str]:
    """A model under `sources`."""
    source: Mapping[str, str] = model.source
    note = " # SmolLM2-135M-Instruct: no account, no GPU" if source == EMBEDDED else ""
    return [f"  {name}:{note}", *(f"    {key}: {_flow(value)}" for key, value in source.items())]


def _sources(data: Data, models: Models) -> list[str]:
    student = [] if models.student is None else _entry("student", models.student)
    return [
        "sources:",
        *_entry("teacher", models.teacher),
        *student,
        "  data:",
        f"    path: {_flow(data.path)}",
        f"    fields: {_flow(data.fields)} # guessed from the columns; correct what is wrong",
    ]


def _prompts(data: Data, models: Models) -> list[str]:
    template = [] if models.chats else ["  template: alpaca # the tokenizer has no chat template"]
    return [
        f"prompts: # of {data.read} rows",
        "  source: data",
        *template,
        f"  pool: {data.pool} # prompts to train on, the largest size under runs",
        f"  test: {data.test} # held-out prompts, on which every model is evaluated",
        f"  part_size: {data.part_size}",
        f"  surplus: {data.surplus:g} # candidates per prompt, because near-duplicates are dropped",
        f"  max_tokens: {data.max_tokens} # longer prompts are left out",
        *(f"  # Left out: {note}" for note in data.notes),
    ]


def _teachers(data: Data, models: Models) -> list[str]:
    tokens = max(1, min(64, models.context // 8))
    lines = [
        "teachers:",
        "  teacher: # answers the prompts itself",
        "    source: teacher",
        "    temperature: 0.7",
        f"    max_tokens: {tokens} # of an answer",
    ]
    if "response" in data.fields or len(data.fields) == 1:
        lines += [
            "  # To learn the file's own answers, name this teacher under runs too:",
            "  # authors: {text: data, source: teacher}",
        ]
    return lines


def _students(models: Models) -> list[str]:
    if models.student is None:
        layers = models.layers
        student = f"  student: {{init: cut, source: teacher, layers: {layers}}}"
        return ["students:", f"{student} # evenly spaced layers of the teacher"]
    return ["students:", "  student: {init: pretrained, source: student}"]


def _methods(models: Models) -> list[str]:
    lines = ["methods:", "  sft: {ce: 1.0} # fine-tuning on the teacher's answers"]
    if not models.same_tokens:
        note = "Soft targets need one tokenizer, or the loss spans: docs/guide/tokenizers.md"
        return [*lines, f"  # {note}"]
    return [
        "caches: # what is stored of the teacher's distribution: docs/guide/soft_targets.md",
        "  even600: {scheme: sampled, draws: 600, systematic: true}",
        "",
        *lines,
        "  kd: {forward_kl: 1.0} # distillation from its distribution over the next token",
    ]


def _training(models: Models) -> list[str]:
    tokens = max(1, min(32, models.context // 8))
    rate = "1e-3" if models.student is None else "1e-4"
    return [
        "train:",
        "  epochs: 1",
        "  batch_size: 8",
        f"  learning_rate: {rate}",
        "  warmup_ratio: 0.1",
        f"  max_length: {models.context} # tokens of a prompt and its answer",
        "",
        "evaluate:",
        "  # reference: a text that no teacher wrote; docs/explanation/measures.md says what for",
        f"  instruction_tokens: {tokens}",
        "  qualitative: 4",
        f"  latency_tokens: {tokens}",
    ]


def _runs(data: Data, models: Models) -> list[str]:
    methods = ["    methods: [sft]"]
    if models.same_tokens:
        methods = ["    methods: [sft, kd]", "    caches: [even600]"]
    block = ["    teachers: [teacher]", *methods]
    return [
        "runs: # one run per size, method and draw",
        "  - students: [student]",
        *block,
        f"    samples: {_flow(data.sizes)}",
        "  - students: [student] # other draws of the data, for error bars",
        *block,
        f"    samples: [{data.sizes[len(data.sizes) // 2]}]",
        "    draws: [1, 2]",
    ]
