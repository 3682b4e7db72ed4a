"""Soft targets of text: ours against a plain forward pass with all logits and a top-k of them."""

import json
import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from alternate import Once, Side, alternate, median, ratios
from distill.models.batching import padded
from distill.models.head_extraction import head_of
from distill.models.opening import dtype_of, load_model, resolve_precision
from distill.models.rows import read_ids
from distill.models.tokenizers import load_tokenizer
from distill.runtime.cpu import set_up_cpu
from distill.targets.caching import cache_targets
from distill.targets.format import decode_targets, scheme_of
from distill.teacher.generation import generate_text
from distill.teacher.scoring import score_text
from embedded import FOLDER, prompts, teacher, text_spec
from rows import Row, middle

NUMBER = 256
MAX_TOKENS = 64
BATCH = 16
K = 32
LENGTHS = (128, 256, 512)  # at 1,024 the plain way takes 8 GB
LONG_ROWS = 16
CPUS = torch.get_num_threads()  # as many as there are cores, or OMP_NUM_THREADS
ANSWERS = FOLDER / "answers.json"


def _precision() -> str:
    return resolve_precision("auto")


def _spec() -> dict[str, Any]:
    one = text_spec(0, MAX_TOKENS)["decoding"]
    scorer = {"temperature": one["temperature"], "top_k": 0, "top_p": 1.0, "weight": 1.0}
    kept = {"scheme": "top_k_tail", "k": K, "bits": 16, "draws": None, "log_p": False}
    return kept | {"systematic": False, "temperatures": [], "seed": 0, "scorers": [scorer]}


def answers() -> list[dict[str, Any]]:
    """Rows of text that the teacher wrote, written once."""
    if not ANSWERS.is_file():
        model = load_model(teacher(), precision=_precision(), sequence=256)
        words, spec = load_tokenizer(teacher()), text_spec(128, MAX_TOKENS)
        made, _ = generate_text(model, words, prompts(NUMBER), spec)
        kept = ("id", "prompt_ids", "response_ids")
        ANSWERS.write_text(json.dumps([{name: row[name] for name in kept} for row in made]))
    found: list[dict[str, Any]] = json.loads(ANSWERS.read_text())
    return found


def rows_of(length: int | None) -> list[dict[str, Any]]:
    """The teacher's answers, or rows of so many tokens whose second half is the answer."""
    if length is None:
        return answers()
    noise = torch.Generator().manual_seed(length)
    ids = torch.randint(1000, 40_000, (LONG_ROWS, length), generator=noise).tolist()
    half = length // 2
    return [
        {"id": str(number), "prompt_ids": row[:half], "response_ids": row[half:]}
        for number, row in enumerate(ids)
    ]


def _tokens(rows: Sequence[dict[str, Any]]) -> int:
    return sum(len(row["response_ids"]) for row in rows)


def _found(seconds: float, rows: Sequence[dict[str, Any]], mass: float) -> dict[str, float]:
    return {"seconds": seconds, "speed": _tokens(rows) / seconds, "mass": mass}


def setup_ours(length: int | None) -> Once:
    """The functions of the rules `score_text` and `cache_targets`, one after the other."""
    set_up_cpu(CPUS)
    rows, spec = rows_of(length), _spec()
    model = load_model(teacher(), precision=_precision(), sequence=length or 256)
    head, scheme = head_of(model), scheme_of(spec)

    def once() -> dict[str, float]:
        began = time.perf_counter()
        made = cache_targets([score_text(model, rows)], [head], spec)
        seconds = time.perf_counter() - began
        mass = sum(float(decode_targets(row, scheme, len(head.weight)).p.sum()) for row in made)
        return _found(seconds, rows, mass / _tokens(rows))

    return once


def setup_states() -> Once:
    """The rule `cache_targets` alone: a teacher's own text has its states from generation."""
    set_up_cpu(CPUS)
    rows, spec = answers(), _spec()
    model = load_model(teacher(), precision=_precision(), sequence=256)
    head, scheme, states = head_of(model), scheme_of(spec), score_text(model, rows)

    def once() -> dict[str, float]:
        began = time.perf_counter()
        made = cache_targets([states], [head], spec)
        seconds = time.perf_counter() - began
        mass = sum(float(decode_targets(row, scheme, len(head.weight)).p.sum()) for row in made)
        return _found(seconds, rows, mass / _tokens(rows))

    return once


def setup_plain(length: int | None) -> Once:
    """Batches of like length through the library's model: all logits, top-k, the answer's."""
    torch.set_num_threads(CPUS)
    rows = rows_of(length)
    model = AutoModelForCausalLM.from_pretrained(teacher(), dtype=dtype_of(_precision())).eval()
    temperature = _spec()["scorers"][0]["temperature"]
    order = sorted(range(len(rows)), key=lambda number: -len(read_ids(rows[number])))
    ordered = [order[first : first + BATCH] for first in range(0, len(order), BATCH)]

    @torch.inference_mode()
    def once() -> dict[str, float]:
        began, mass = time.perf_counter(), 0.0
        for batch in ordered:
            ids, mask = padded([rows[number] for number in batch], "cpu")
            logits = model(input_ids=ids, attention_mask=mask).logits
            top = torch.log_softmax(logits.float() / temperature, -1).topk(K, -1)
            for number, values, words in zip(batch, top.values, top.indices, strict=True):
                first = len(rows[number]["prompt_ids"]) - 1
                last = first + len(rows[number]["response_ids"])
                kept = values[first:last].half(), words[first:last].int()
                mass += float(kept[0].float().exp().sum())
        return _found(time.perf_counter() - began, rows, mass / _tokens(rows))

    return once


def _side(name: str, **settings: Any) -> Side:
    return Side(f"scoring:setup_{name}", settings)


def _memory() -> Row:
    """The most memory added at each length, a round each, as memory does not vary."""
    added: dict[str, list[float]] = {"ours": [], "plain": []}
    for length in LENGTHS:
        sides = {name: _side(name, length=length) for name in added}
        found = alternate(sides, repetitions=1, warm_up=0)
        for name, each in added.items():
            each.append(median(found[name], "added_mb"))
    ours, plain = (
        " / ".join(f"{value:.0f}" for value in added[name]) for name in ("ours", "plain")
    )
    lengths = " / ".join(map(str, LENGTHS))
    grew, theirs = (added[name][-1] - added[name][0] for name in ("ours", "plain"))
    whole = LONG_ROWS * (LENGTHS[-1] - LENGTHS[0]) * 49_152 * 2 / 2**20
    return Row(
        what=f"teacher scoring, memory at {lengths} tokens a row",
        against="plain forward + top-k",
        value=f"{ours} and {plain} MB",
        target="independent of length x vocabulary",
        met=grew < 0.25 * whole,
        remark=f"{LONG_ROWS} rows, half of each an answer, memory above what the process held "
        f"before; from the shortest to the longest ours grew by {grew:.0f} MB and theirs by "
        f"{theirs:.0f}, where bf16 logits alone grow by {whole:.0f}; what grows in ours is "
        "attention and states",
        numbers=added,
    )


def measure() -> list[Row]:
    """Rows of speed, for another's text and the teacher's own, and of memory."""
    torch.set_num_threads(CPUS)
    answers()
    sides = {
        "ours": _side("ours", length=None),
        "states": _side("states"),
        "plain": _side("plain", length=None),
    }
    found = alternate(sides)
    speeds = {name: median(found[name], "speed") for name in sides}
    mass = {name: median(found[name], "mass") for name in sides}
    equal = f"equal work: the {K} likeliest words hold {mass['ours']:.4f} of q in ours and "
    equal += f"{mass['plain']:.4f} in theirs"
    made = []
    for name, what in (("ours", "any text"), ("states", "the text it wrote")):
        ratio, spread = middle(ratios(found[name], found["plain"], "speed"))
        made.append(
            Row(
                what=f"teacher scoring (soft targets), {what}",
                against=f"plain forward + top-{K}, {_precision()}, batch {BATCH}",
                value=f"{speeds[name]:.0f} and {speeds['plain']:.0f} answer tokens/s",
                target="≥ 2×",
                met=ratio >= 2,
                ratio=ratio,
                spread=spread,
                remark=equal if name == "ours" else "states fell out of generation; " + equal,
                numbers={"rounds": found} if name == "ours" else {},
            )
        )
    return [*made, _memory()]
