"""Text of the teacher: Magpie prompts and responses, from its sampling distribution."""

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from distill.contracts.costs import FREE, Cost, cost_of
from distill.contracts.schemas import RAW_SCHEMA, STATES_SCHEMA, TEXT_SCHEMA
from distill.core.checksums import tokenizer_sha256
from distill.core.completeness import check_some_text, count_empty
from distill.core.errors import UserError
from distill.core.noise import row_uniforms
from distill.core.parquet import read_rows, write_rows
from distill.models.batch_mode import modes_of
from distill.models.decoding import Decoding
from distill.models.flops import FlopModel
from distill.models.formatting import asked, encoder, magpie_prefix
from distill.models.head_extraction import model_head
from distill.models.heads import state_bytes, state_dtype
from distill.models.opening import load_teacher
from distill.models.responses import Read, Responses
from distill.models.sampling import sample_batch
from distill.models.token_ids import ids_without_token
from distill.models.tokenizers import load_tokenizer
from distill.models.turns import controls_inside, turns_of
from distill.runtime.memory import job_peak
from distill.runtime.meter import Meter
from distill.runtime.out_of_memory import memory_hint, smaller_batch


def _bar(what: str, rows: int) -> Any:
    return tqdm(total=rows, desc=what, unit="row", mininterval=2, leave=False)


def synthesise_prompts(
    model: Any, tokenizer: Any, spec: dict[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Let a model generate user turns (Magpie, Xu 2024); keep those that it closed.

    Args:
        model: A chat model in eval mode.
        tokenizer: Its tokenizer.
        spec: Holds split, part, candidates, batch_size, max_tokens, temperature, top_p, seed and
            system; and date and settings of the chat template, where they are set.

    Returns:
        `candidates` raw prompts, and columns of the cost of all turns, discarded ones included.

    Raises:
        UserError: Hardly any turn is closed within max_tokens.
    """
    prefix = magpie_prefix(tokenizer, spec["system"], spec.get("date"), spec.get("settings"))
    ends = turns_of(tokenizer)
    excluded = ids_without_token(tokenizer, len(model.get_output_embeddings().weight))
    decoding = Decoding(spec["temperature"], 0, spec["top_p"], tuple(excluded))
    flop_model = FlopModel.from_model(model)
    steps = spec["max_tokens"]
    prompts: list[dict[str, Any]] = []
    attempts, tokens, flops, start = 0, 0, 0.0, time.perf_counter()
    meter = Meter()
    with _bar(f"prompts {spec['split']} {spec['part']}", spec["candidates"]) as bar:
        while len(prompts) < spec["candidates"]:
            if attempts >= 20 * spec["candidates"]:
                raise UserError(
                    f"only {len(prompts)} of {attempts} Magpie turns were closed within "
                    f"prompts.max_tokens ({steps}); raise it or choose an instruction-tuned teacher"
                )
            missing = spec["candidates"] - len(prompts)
            closing = max(len(prompts), 1) / attempts if attempts else 0.5
            size = min(spec["batch_size"], math.ceil(1.1 * missing / closing))
            ids = [
                f"{spec['split']}-{spec['part']}-attempt-{attempts + row}" for row in range(size)
            ]
            noise = np.stack([row_uniforms(name, spec["seed"], steps) for name in ids])
            turns = sample_batch(
                model,
                [prefix] * size,
                stop_ids=ends.stops,
                max_new_tokens=steps,
                decoding=decoding,
                uniforms=noise,
            )
            attempts += size
            flops += sum(flop_model.generation(len(prefix), len(new)) for new, _ in turns)
            for name, (new, reason) in zip(ids, turns, strict=True):
                text = tokenizer.decode(ends.body(new), skip_special_tokens=True).strip()
                if reason == "stop" and text:
                    row = {"id": name, "prompt": text, "context": None, "response": None}
                    prompts.append(row)
            bar.update(min(len(prompts), spec["candidates"]) - bar.n)
            tokens += sum(len(new) for new, _ in turns)
            bar.set_postfix_str(f"{tokens / (time.perf_counter() - start):.0f} tokens/s")
    return prompts[: spec["candidates"]], (Cost(flops) + meter.total()).columns()


def _states_row(name: str, new: list[int], states: torch.Tensor) -> dict[str, Any]:
    """The row of `STATES_SCHEMA` of an answer; generation gives its states at no extra cost."""
    blob = state_bytes(states[: len(new)], states.dtype)
    return {"id": name, "tokens": len(new), "hidden": blob, **FREE.columns()}


def _text_row(
    prompt: dict[str, Any],
    read: Read,
    new: list[int],
    reason: str,
    cost: Cost,
) -> dict[str, Any]:
    """The row of `TEXT_SCHEMA` of an answer; costs include the prompt's."""
    return {
        **{name: prompt[name] for name in ("id", "row", "prompt", "context", "reference")},
        **{name: prompt.get(name) for name in ("system", "turns")},
        "response": read.text,
        "prompt_ids": read.prompt,
        "response_ids": new,
        "finish_reason": reason,
        **(cost_of(prompt, "prompt_") + cost).columns("teacher_"),
    }


def generate_text(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[dict[str, Any]],
    spec: dict[str, Any],
    exact: bool = False,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Answer one part of the prompts from the teacher's sampling distribution.

    Prompts of similar length share a batch. Each row draws from noise keyed by its id and the seed.
    The final hidden states that the tokens were drawn from are kept: soft targets then cost no
    second pass of the teacher.

    Args:
        model: The teacher in eval mode.
        tokenizer: Its tokenizer.
        prompts: Rows of a kept prompt part.
        spec: Holds formatting and decoding.
        exact: Whether hidden states are stored as the model computes them, not rounded to bf16.

    Returns:
        Rows of `TEXT_SCHEMA` and rows of `STATES_SCHEMA`, in the order of `prompts`; no states
        where thinking was dropped.

    Raises:
        UserError: No answer has any text, or the model's outputs are NaN or infinite.
    """
    head = model_head(model, tokenizer)  # refuses one that hidden states do not suffice for
    decoding = spec["decoding"]
    encode = encoder(tokenizer, **spec["formatting"])
    encoded = [encode(*asked(row)) for row in prompts]
    order = sorted(range(len(prompts)), key=lambda row: (len(encoded[row]), row))
    responses = Responses(tokenizer, spec["formatting"]["template"], decoding)
    flop_model = FlopModel.from_model(model)
    steps, size = decoding["max_tokens"], decoding["batch_size"]
    cuts = decoding["top_k"], decoding["top_p"]
    distribution = Decoding(decoding["temperature"], *cuts, tuple(head.excluded))
    done: dict[int, dict[str, Any]] = {}
    state_rows: dict[int, dict[str, Any]] = {}
    width, stored = head.weight.shape[1], state_dtype(model.dtype, exact)
    start, tokens, meter = time.perf_counter(), 0, Meter()
    with _bar("responses", len(prompts)) as bar:
        for first in range(0, len(order), size):
            batch = order[first : first + size]
            noise = np.stack(
                [row_uniforms(prompts[row]["id"], decoding["seed"], steps) for row in batch]
            )
            states = torch.empty(len(batch), steps, width, dtype=stored)
            answers = sample_batch(
                model,
                [encoded[row] for row in batch],
                stop_ids=responses.turns.stops,
                max_new_tokens=steps,
                decoding=distribution,
                uniforms=noise,
                states=states,
                stopped=responses.stopped,
            )
            share = meter.lap() / len(batch)
            for row, (new, reason), state in zip(batch, answers, states, strict=True):
                read = responses.read(encoded[row], new, reason)
                answer = new[read.first :]
                state_rows[row] = _states_row(prompts[row]["id"], answer, state[read.first :])
                cost = Cost(flop_model.generation(len(encoded[row]), len(new))) + share
                done[row] = _text_row(prompts[row], read, answer, reason, cost)
            tokens += sum(len(new) for new, _ in answers)
            bar.update(len(batch))
            bar.set_postfix_str(f"{tokens / (time.perf_counter() - start):.0f} tokens/s")
    rows = [done[row] for row in range(len(prompts))]
    check_some_text(rows, getattr(model, "name_or_path", "") or "the teacher")
    reasons = [row["finish_reason"] for row in rows]
    logging.info(
        "%d answers, %d cut by length, %d empty",
        len(rows),
        reasons.count("length"),
        count_empty(rows),
    )
    if decoding.get("thinking") == "drop":  # states of another context than the text's
        return rows, []
    return rows, [state_rows[row] for row in range(len(prompts))]


def longest_sequence(
    tokenizer: Any, prompts: Sequence[dict[str, Any]], spec: dict[str, Any]
) -> int:
    """Most tokens of a prompt and its response, for choosing kernels and checking the context."""
    encode = encoder(tokenizer, **spec["formatting"])
    longest = max(len(encode(*asked(row))) for row in prompts)
    return longest + int(spec["decoding"]["max_tokens"])


def synthesise_part(model: str | Path, out: str | Path, spec: dict[str, Any], teacher: str) -> None:
    """Let a teacher generate one raw part of the prompts (Magpie).

    Args:
        model: A file in the teacher's directory.
        out: The part, rows of `RAW_SCHEMA`.
        spec: As of `synthesise_prompts`, and how the teacher is loaded; stored in the part.
        teacher: Its name in the config, for errors.

    Raises:
        UserError: As `synthesise_prompts`; memory ran out.
    """
    folder = Path(model).parent
    opened = load_teacher(folder, spec, sequence=4 * spec["max_tokens"])
    with memory_hint(f"writing {spec['batch_size']} prompts at once", smaller_batch(teacher)):
        rows, cost = synthesise_prompts(opened, load_tokenizer(folder), spec)
    write_rows(out, rows, RAW_SCHEMA, spec=spec, cost=cost, data=None)


def generate_part(
    prompts: str | Path,
    model: str | Path,
    text: str | Path,
    states: str | Path,
    spec: dict[str, Any],
    teacher: str,
    exact: bool = False,
) -> None:
    """Let a teacher answer one part of the prompts; keep the hidden states behind its answers.

    Args:
        prompts: The part of the prompts.
        model: A file in the teacher's directory.
        text: Output, rows of `TEXT_SCHEMA`, written last.
        states: Output, rows of `STATES_SCHEMA`, with the job's memory and energy.
        spec: As of `generate_text`, and how the teacher is loaded; stored in both outputs.
        teacher: Its name in the config, for errors.
        exact: As of `generate_text`.

    Raises:
        UserError: As `generate_text`; memory ran out; a prompt and its answer do not fit the
            teacher's context.
    """
    rows_to_answer, folder, decoding = read_rows(prompts), Path(model).parent, spec["decoding"]
    tokenizer = load_tokenizer(folder)
    length = longest_sequence(tokenizer, rows_to_answer, spec)
    opened = load_teacher(folder, decoding, sequence=length)
    meter = Meter()
    what = f"answering {decoding['batch_size']} prompts at once"
    with memory_hint(what, smaller_batch(teacher)):
        rows, hidden = generate_text(opened, tokenizer, rows_to_answer, spec, exact)
    used = job_peak() | meter.total().energy.record() | {"batching": modes_of(opened)}
    write_rows(states, hidden, STATES_SCHEMA, spec=spec, job=used)
    digest, controls = tokenizer_sha256(tokenizer), controls_inside(rows, tokenizer)
    write_rows(text, rows, TEXT_SCHEMA, spec=spec, tokenizer_sha256=digest, controls=controls)
