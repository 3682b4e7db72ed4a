"""Read what a model's costs depend on off its config, without its weights."""

from pathlib import Path
from typing import Any

from torch import nn

from distill.costing import Architecture
from distill.files import UserError
from distill.flops import FlopModel, count_parameters
from distill.forecast import Models
from distill.formatting import encoder, magpie_prefix
from distill.models import load_tokenizer
from distill.plan import Plan
from distill.students import empty_student

_SMALL = ("*.json", "*.txt", "*.model", "*.jinja")
_PRETRAINED: dict[str, Any] = {"init": "pretrained", "layers": None, "config": {}, "seed": 0}


def read_architecture(folder: str | Path, student: dict[str, Any] | None = None) -> Architecture:
    """The architecture of the model in `folder`, or of a student that is made from it.

    Args:
        folder: Model directory; only config and tokenizer are read.
        student: init, layers, config and seed of a student; None for the model itself.

    Raises:
        UserError: The student cannot be built, or the FLOPs of its architecture are not counted.
    """
    model = empty_student(student or _PRETRAINED, folder)
    flops = FlopModel.from_model(model)
    total, body = count_parameters(model)
    config, head = model.config, model.get_output_embeddings()
    heads = int(config.num_attention_heads)
    head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    layers = int(config.num_hidden_layers)
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    skipped = {id(tensor) for table in (*tables, head) for tensor in table.parameters()}
    matrices = [
        tensor for tensor in model.parameters() if tensor.dim() == 2 and id(tensor) not in skipped
    ]
    vocabulary, width = head.weight.shape
    return Architecture(
        params=total,
        body_params=body,
        flops=flops,
        width=int(width),
        vocabulary=int(vocabulary),
        layers=layers,
        heads=heads,
        activations=sum(sum(tensor.shape) for tensor in matrices),
        kv=2 * layers * kv_heads * head_dim,
        files=small_files(folder),
    )


def small_files(folder: str | Path) -> int:
    """Bytes of tokenizer and config files in a model directory."""
    names = {file for pattern in _SMALL for file in Path(folder).glob(pattern)}
    return sum(file.stat().st_size for file in names if file.name != "manifest.json")


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
    study, prompts = plan.study, plan.study.prompts

    def folder(source: str) -> Path:
        manifest = Path(root, plan.model_manifest(source))
        if not manifest.is_file():
            raise UserError(f"{manifest} is missing; run the rule plan, which fetches it first")
        return manifest.parent

    runs = [*plan.runs, *(plan.search_run(name) for name in plan.searches)]
    names = {run.teacher: None for run in runs}
    used = [*names, *(name for cache in study.caches.values() for name in cache.teachers)]
    used += [prompts.teacher] if prompts.source == "magpie" and prompts.teacher else []
    teachers, template, prefix = {}, dict.fromkeys(names, 0), dict.fromkeys(used, 0)
    for name in dict.fromkeys(used):
        source = study.teachers[name].source
        if source is None:
            continue
        teachers[name] = read_architecture(folder(source))
        if name in names:
            template[name] = template_tokens(folder(source), plan.formatting_spec())
        if prompts.template == "chat" or (prompts.source == "magpie" and name == prompts.teacher):
            prefix[name] = prefix_tokens(folder(source), prompts.system)
    students = {
        name: read_architecture(folder(study.students[name].source), plan.student_spec(name))
        for name in dict.fromkeys(run.student for run in runs)
    }
    return Models(teachers, students, template, prefix)
