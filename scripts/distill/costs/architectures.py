"""Read what a model's costs depend on off its config, without its weights."""

from pathlib import Path
from typing import Any

from torch import nn

from distill.core.errors import UserError
from distill.costs.pricing import Models
from distill.costs.work import Architecture
from distill.models.building import empty_student
from distill.models.flops import FlopModel, count_parameters, routed_experts
from distill.models.formatting import encoder, magpie_prefix
from distill.models.tokenizers import load_tokenizer
from distill.plan.needed import needed_runs, needed_students, needed_texts
from distill.plan.study import Plan

_SMALL = ("*.json", "*.txt", "*.model", "*.jinja")
_PRETRAINED: dict[str, Any] = {"init": "pretrained", "layers": None, "config": {}, "seed": 0}


def read_architecture(
    folder: str | Path, student: dict[str, Any] | None = None, saved: bool = False
) -> Architecture:
    """The architecture of the model in `folder`, or of a student that is made from it.

    Args:
        folder: Model directory; only config and tokenizer are read.
        student: init, layers, config, seed and vocabulary of a student; None for the model itself.
        saved: The student as its file holds it, rather than as it is trained: with the full
            vocabulary where it is trimmed.

    Raises:
        UserError: The student cannot be built, or the FLOPs of its architecture are not counted.
    """
    model = empty_student(student or _PRETRAINED, folder, saved)
    flops = FlopModel.from_model(model)
    total, body = count_parameters(model)
    config, head = model.config.get_text_config(), model.get_output_embeddings()
    heads = int(getattr(config, "num_attention_heads", None) or 0)  # 0 in a state-space model
    shared = int(getattr(config, "num_key_value_heads", None) or heads) / max(heads, 1)
    vocabulary, width = head.weight.shape
    return Architecture(
        params=total,
        body_params=body,
        flops=flops,
        width=int(width),
        vocabulary=int(vocabulary),
        layers=int(config.num_hidden_layers),
        heads=heads,
        activations=_activations(model),
        # Products of a query with a key and a value are 2 FLOPs per element of these.
        kv=round(flops.attention_per_token_per_context / 2 * shared),
        files=small_files(folder) + _kept_ids(student or {}),
    )


def _activations(model: Any) -> int:
    """Elements per token that enter or leave a weight matrix below the output head."""
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    tables.append(model.get_output_embeddings())
    skipped = {id(tensor) for table in tables for tensor in table.parameters()}
    elements = 0
    for module in model.modules():
        experts = routed_experts(model, module) or 1
        for tensor in module.parameters(recurse=False):
            if tensor.dim() > 1 and id(tensor) not in skipped:
                elements += experts * sum(tensor.shape[-2:])
    return elements


def small_files(folder: str | Path) -> int:
    """Bytes of tokenizer and config files in a model directory."""
    names = {file for pattern in _SMALL for file in Path(folder).glob(pattern)}
    return sum(file.stat().st_size for file in names if file.name != "manifest.json")


def _kept_ids(student: dict[str, Any]) -> int:
    """Bytes of the list of ids that a trimmed student keeps: one a line, of five digits or so."""
    return 9 * student["vocabulary"]["size"] if "vocabulary" in student else 0


def template_tokens(folder: str | Path, formatting: dict[str, Any]) -> int:
    """Tokens that the template puts around a prompt."""
    return len(encoder(load_tokenizer(folder), **formatting)("a", None))


def prefix_tokens(folder: str | Path, system: str | None) -> int:
    """Tokens of the chat template before the user's words."""
    return len(magpie_prefix(load_tokenizer(folder), system))


def read_models(plan: Plan, root: str | Path = ".") -> Models:
    """Architectures of all models that the runs of a study use.

    Raises:
        UserError: A model is not in place, or its FLOPs are not counted.
    """
    study, prompts = plan.study, plan.pool.settings

    def folder(source: str) -> Path:
        manifest = Path(root, plan.sources.manifest(source))
        if not manifest.is_file():
            raise UserError(f"{manifest} is missing; run the rule plan, which fetches it first")
        return manifest.parent

    def origin(teacher: str) -> str | None:
        """Model source of a teacher, or of the student that becomes it."""
        entry = study.teachers[teacher]
        return study.students[entry.trained.student].source if entry.trained else entry.source

    names = dict.fromkeys(run.teacher for run in needed_runs(plan))
    names |= dict.fromkeys(teacher for teacher, _, _ in needed_texts(plan))
    used = [*names, *(name for cache in study.caches.values() for name in cache.teachers)]
    used += [prompts.teacher] if prompts.source == "magpie" and prompts.teacher else []
    used = list(dict.fromkeys(used))
    trained = {name: own.student for name in used if (own := study.teachers[name].trained)}
    students, saved = {}, {}
    for name in dict.fromkeys([*needed_students(plan), *trained.values()]):
        spec, place = plan.students.spec(name), folder(study.students[name].source)
        students[name] = saved[name] = read_architecture(place, spec)
        if "vocabulary" in spec:
            saved[name] = read_architecture(place, spec, saved=True)
    teachers, template, prefix = {}, dict.fromkeys(names, 0), dict.fromkeys(used, 0)
    for name in used:
        source = origin(name)
        if source is None:
            for words in plan.text.tokenizer(name) if name in names else []:
                place = Path(root, words).parent
                template[name] = template_tokens(place, plan.teachers.formatting(name))
            continue
        given = saved[trained[name]] if name in trained else read_architecture(folder(source))
        teachers[name] = given
        if name in names:
            template[name] = template_tokens(folder(source), plan.teachers.formatting(name))
        if prompts.template == "chat" or (prompts.source == "magpie" and name == prompts.teacher):
            prefix[name] = prefix_tokens(folder(source), prompts.system)
    return Models(teachers, students, saved, template, prefix)
