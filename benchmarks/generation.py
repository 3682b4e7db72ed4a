"""A teacher's answers: ours against the library's `generate` and against llama.cpp."""

import json
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from alternate import Once, Side, alternate, median, ratios
from distill.models.decoding import Decoding
from distill.models.flops import FlopModel
from distill.models.formatting import encoder
from distill.models.head_extraction import head_of
from distill.models.heads import hidden_states, teacher_log_q
from distill.models.opening import dtype_of, load_model, resolve_precision
from distill.models.tokenizers import load_tokenizer
from distill.models.turns import turns_of
from distill.runtime.cpu import set_up_cpu
from distill.teacher.generation import generate_text
from distill.teacher.scoring import score_text
from embedded import GGUF, prompts, teacher, text_spec
from peak import gemm_peak
from rows import Row, middle

NUMBER, SLOW_NUMBER = 128, 64
MAX_TOKENS = 64
BATCHES = (64, 128)
OURS = 128  # the default of a teacher's batch_size
SLOTS = 64
CPUS = torch.get_num_threads()  # as many as there are cores, or OMP_NUM_THREADS

Answers = Sequence[tuple[list[int], list[int]]]
"""Prompt and answer in tokens."""


def _found(answers: Answers, seconds: float, path: str) -> dict[str, float]:
    """What a repetition found, and its answers into a file for the check of equal work."""
    Path(path).write_text(json.dumps(answers))
    tokens = sum(len(answer) for _, answer in answers)
    return {"seconds": seconds, "tokens": tokens, "speed": tokens / seconds}


def _precision() -> str:
    return resolve_precision("auto")


def setup_ours(path: str) -> Once:
    """The function of the rule `generate_text`, which keeps the final hidden states too."""
    set_up_cpu(CPUS)
    rows, words = prompts(NUMBER), load_tokenizer(teacher())
    model = load_model(teacher(), precision=_precision(), sequence=256)
    flop_model, spec = FlopModel.from_model(model), text_spec(OURS, MAX_TOKENS)

    def once() -> dict[str, float]:
        began = time.perf_counter()
        made, _ = generate_text(model, words, rows, spec)
        seconds = time.perf_counter() - began
        answers = [(row["prompt_ids"], row["response_ids"]) for row in made]
        flops = sum(flop_model.generation(len(one), len(two)) for one, two in answers)
        speed = flops / seconds
        peak = gemm_peak(dtype_of(_precision()))
        return _found(answers, seconds, path) | {"utilisation": speed / peak, "peak": peak}

    return once


def setup_library(path: str) -> Once:
    """`generate`, prompts of like length together, at the fastest of `BATCHES`."""
    torch.set_num_threads(CPUS)
    words, spec = load_tokenizer(teacher()), text_spec(0, MAX_TOKENS)
    model = AutoModelForCausalLM.from_pretrained(teacher(), dtype=dtype_of(_precision())).eval()
    encode, ends = encoder(words, **spec["formatting"]), turns_of(words).stops
    encoded = sorted((encode(row["prompt"], None) for row in prompts(NUMBER)), key=len)
    words.padding_side = "left"

    def answer(size: int) -> Answers:
        answers: list[tuple[list[int], list[int]]] = []
        for first in range(0, len(encoded), size):
            asked = encoded[first : first + size]
            batch = words.pad({"input_ids": asked}, return_tensors="pt")
            made = model.generate(
                **batch, do_sample=True, temperature=spec["decoding"]["temperature"], top_k=0,
                top_p=1.0, max_new_tokens=MAX_TOKENS, eos_token_id=ends,
                pad_token_id=words.pad_token_id,
            )[:, batch["input_ids"].shape[1] :]  # fmt: skip
            for one, ids in zip(asked, made.tolist(), strict=True):
                stop = next((at for at, token in enumerate(ids) if token in ends), len(ids))
                answers.append((one, ids[: stop + 1]))
        return answers

    def run(size: int) -> dict[str, float]:
        began = time.perf_counter()
        answers = answer(size)
        return _found(answers, time.perf_counter() - began, path) | {"batch_size": size}

    torch.manual_seed(0)
    answer(len(encoded))  # the first time is slower
    best = max(BATCHES, key=lambda size: run(size)["speed"])
    return lambda: run(best)


def setup_llama(path: str) -> Once:
    """llama.cpp's server on the GGUF file that our weights come from, batches run through."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(GGUF)
    settings.n_parallel, settings.n_ctx, settings.n_batch = SLOTS, SLOTS * 256, 2048
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = CPUS
    settings.verbosity = 0
    server = xllamacpp.Server(settings)
    words, spec = load_tokenizer(teacher()), text_spec(0, MAX_TOKENS)
    encode, ends = encoder(words, **spec["formatting"]), turns_of(words).stops
    # Every second prompt, as all would take this side a minute a turn.
    encoded = [encode(row["prompt"], None) for row in prompts(NUMBER)[:: NUMBER // SLOW_NUMBER]]
    asked = {
        "prompt": encoded, "n_predict": MAX_TOKENS, "samplers": ["temperature"],
        "temperature": spec["decoding"]["temperature"], "return_tokens": True,
        "cache_prompt": False,
    }  # fmt: skip

    def once() -> dict[str, float]:
        request = urllib.request.Request(
            f"{server.listening_address}/completion",
            json.dumps(asked).encode(),
            {"Content-Type": "application/json"},
        )
        began = time.perf_counter()
        with urllib.request.urlopen(request) as reply:
            made = json.loads(reply.read())
        seconds = time.perf_counter() - began
        answers = []
        for one, got in zip(encoded, sorted(made, key=lambda row: row["index"]), strict=True):
            ids = list(got["tokens"])
            if got["stop_type"] == "eos" and (not ids or ids[-1] not in ends):
                ids.append(ends[0])
            answers.append((one, ids))
        return _found(answers, seconds, path)

    return once


def _likelihood(path: Path) -> dict[str, float]:
    """Mean length of a side's answers, and mean log-probability of a token under the teacher."""
    answers = json.loads(path.read_text())
    rows: list[dict[str, Any]] = [
        {"id": str(number), "prompt_ids": one, "response_ids": two}
        for number, (one, two) in enumerate(answers)
    ]
    model = load_model(teacher(), precision=_precision(), sequence=256)
    head, total = head_of(model), 0.0
    decoding = Decoding(text_spec(0, MAX_TOKENS)["decoding"]["temperature"])
    for row, state in zip(rows, score_text(model, rows), strict=True):
        hidden = hidden_states(state["hidden"], head.weight.shape[1])
        logs = teacher_log_q(head, hidden, decoding)
        total += float(logs.gather(1, torch.tensor(row["response_ids"]).unsqueeze(1)).sum())
    tokens = sum(len(answer) for _, answer in answers)
    return {"mean_tokens": tokens / len(rows), "log_likelihood": total / tokens}


def measure() -> list[Row]:
    """Rows of answers by three engines, and of our share of the machine's limit."""
    torch.set_num_threads(CPUS)
    prompts(NUMBER)
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / name for name in ("ours", "library", "llama")}
        sides = {
            name: Side(f"generation:setup_{name}", {"path": str(path)})
            for name, path in paths.items()
        }
        found = alternate(sides)
        checks = {name: _likelihood(path) for name, path in paths.items()}
    speeds = {name: median(found[name], "speed") for name in sides}
    equal = "; ".join(
        f"{name} {check['mean_tokens']:.1f} tokens an answer, {check['log_likelihood']:.3f} nats "
        "a token" for name, check in checks.items()
    )  # fmt: skip
    size = int(found["library"][0]["batch_size"])
    numbers = {"rounds": found, "checks": checks}
    made = []
    for name, against in (
        ("library", f"transformers generate, {_precision()}, batch {size} (its best)"),
        ("llama", f"llama.cpp on the same GGUF, {SLOTS} sequences at once"),
    ):
        ratio, spread = middle(ratios(found["ours"], found[name], "speed"))
        made.append(
            Row(
                what="teacher generation",
                against=against,
                value=f"{speeds['ours']:.0f} and {speeds[name]:.0f} tokens/s",
                target="≥ 1.5×",
                met=ratio >= 1.5,
                ratio=ratio,
                spread=spread,
                remark=f"equal work: {equal}",
                numbers=numbers if name == "library" else {},
            )
        )
    share, peak = (median(found["ours"], name) for name in ("utilisation", "peak"))
    made.append(
        Row(
            what="teacher generation, share of the machine's limit",
            against=f"{_precision()} matrix products, {peak / 1e9:.0f} GFLOP/s",
            value=f"{100 * share:.0f} %",
            target="≥ 45 %",
            met=share >= 0.45,
            remark="all of a part's work: prompts read, answers drawn, text and states written",
        )
    )
    return made
