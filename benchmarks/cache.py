"""Bytes per token of soft targets as stored, and what a student loses that learns from them.

The workflow writes text and caches (`cache.yaml`). Then one student is trained from each cache, on
the same rows in the same order from the same weights, and judged against the teacher's exact
distribution on answers that it did not learn. `exact` is that distribution over all words: what a
dense cache would hold, computed from the last hidden states.
"""

import os
import shutil
import statistics
import tempfile
from functools import cache as once_only
from pathlib import Path
from typing import Any

import torch
import yaml

from alternate import Once, Side, alternate, median
from distill.config.checks.study import parse_study
from distill.contracts.run import Run
from distill.core.parquet import read_rows
from distill.models.decoding import Decoding
from distill.models.encoding import collate
from distill.models.heads import hidden_states, load_head, teacher_log_q
from distill.models.rows import Example
from distill.models.tokenizers import load_tokenizer
from distill.plan.study import Plan
from distill.runtime.cpu import set_up_cpu
from distill.targets.format import bytes_per_token
from distill.training.build import build_trainer
from prepared import FOLDER, ROOT, snakemake
from rows import Row

CONFIG = ROOT / "benchmarks/cache.yaml"
TRAINED, ALL = 96, 160
EXACT = "exact"
VOCABULARY = 49_152
DENSE = 2 * VOCABULARY
"""Bytes per token of a log-probability in 16 bits for every word."""
PUBLISHED = "114 to 300 B/token"
"""DistillKit's own figures for its compressed logits."""
BYTES, LOSS = 40.0, 0.5
THREADS = 2
T90 = {3: 2.920, 4: 2.353, 5: 2.132}
"""Student's t, .95 quantile, of n - 1 degrees of freedom by n."""


@once_only
def plan() -> Plan:
    """The plan of this benchmark's study."""
    return Plan(parse_study(yaml.safe_load(CONFIG.read_text())))


def run(cache: str, samples: int, seed: int = 0) -> Run:
    """One of its runs."""
    wanted = (cache, samples, seed)
    (found,) = [one for one in plan().runs if (one.cache, one.samples, one.seed) == wanted]
    return found


def _make() -> None:
    """Make what is missing: text, caches, shards, the student before training."""
    files = [plan().students.file("layers2"), plan().shards.file(run(EXACT, ALL))]
    files += [plan().shards.file(run(cache, TRAINED)) for cache in plan().study.caches]
    snakemake(*files, config=CONFIG)


def _stored(cache: str) -> float:
    """Bytes per token of a cache's own files."""
    parts = plan().shards.targets(run(cache, TRAINED))
    return bytes_per_token([FOLDER / part for part in parts])


@torch.no_grad()
def _judged(model: Any, rows: list[dict[str, Any]], head: Any, pad: int) -> dict[str, float]:
    """Cross-entropy of the student against q, and KL(q || student), nats per token of answers."""
    model.eval()
    crossed, entropy, tokens = 0.0, 0.0, 0
    decoding = Decoding(plan().study.teachers["smollm2"].temperature)
    for first in range(0, len(rows), 8):
        block = rows[first : first + 8]
        batch = collate([Example(row["prompt_ids"], row["response_ids"]) for row in block], pad)
        keep = batch["shift_labels"] != -100
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        own = logits[keep].float().log_softmax(-1)
        width = head.weight.shape[1]
        states = torch.cat([hidden_states(row["hidden"], width) for row in block])
        theirs = teacher_log_q(head, states, decoding)
        q = theirs.exp()
        crossed -= float((q * own).sum())
        entropy -= float((q * theirs).sum())
        tokens += len(own)
    return {"loss": crossed / tokens, "kl": (crossed - entropy) / tokens}


def set_up(cache: str) -> Once:
    """Train the student from one cache, each time with the next seed, and judge it."""
    set_up_cpu(THREADS)
    first = run(cache, TRAINED)
    initial = (FOLDER / plan().students.file("layers2")).parent
    learned = {row["id"] for row in read_rows(FOLDER / plan().shards.file(first))}
    rows = read_rows(FOLDER / plan().shards.file(run(EXACT, ALL)))
    rows = [row for row in rows if row["id"] not in learned]
    files = {name: [FOLDER / file for file in plan().training.heads(run(name, TRAINED))]
             for name in (EXACT, cache)}  # fmt: skip
    head = load_head(files[EXACT][0], torch.device("cpu"))
    pad = load_tokenizer(initial).pad_token_id
    folder, seeds = Path(tempfile.mkdtemp()), iter(plan().study.runs[0].seeds)
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / "tensorboard")

    def once() -> dict[str, float]:
        one = run(cache, TRAINED, next(seeds))
        shutil.rmtree(folder, ignore_errors=True)
        trainer = build_trainer(
            initial, FOLDER / plan().shards.file(one), plan().training.spec(one), one.student,
            folder / "resume", heads=files[cache],
        )  # fmt: skip
        trainer.train()
        return _judged(trainer.model, rows, head, pad) | {"updates": trainer.state.global_step}

    return once


def _differences(
    ours: list[dict[str, float]], exact: list[dict[str, float]], name: str
) -> tuple[float, float]:
    """Mean difference from the same seed's exact run in per cent, half its 90 % t interval."""
    each = [100 * (a[name] / b[name] - 1) for a, b in zip(ours, exact, strict=True)]
    return statistics.mean(each), T90[len(each)] * statistics.stdev(each) / len(each) ** 0.5


def measure() -> list[Row]:
    """Store, train from each cache, and compare."""
    _make()
    caches, seeds = list(plan().study.caches), plan().study.runs[0].seeds
    sides = {cache: Side("cache:set_up", {"cache": cache}) for cache in caches}
    found = alternate(sides, repetitions=len(seeds), warm_up=0)
    made = []
    for cache in caches:
        if cache == EXACT:
            continue
        size = _stored(cache)
        loss, loss_half = _differences(found[cache], found[EXACT], "loss")
        kl, kl_half = _differences(found[cache], found[EXACT], "kl")
        made.append(
            Row(
                what=f"soft targets of {plan().study.caches[cache].draws} even draws (`{cache}`)",
                against=f"dense fp16; DistillKit's published {PUBLISHED}",
                value=f"{size:.1f} B/token, {DENSE:,} B/token; student's loss "
                f"{loss:+.2f} ± {loss_half:.2f} %, KL {kl:+.2f} ± {kl_half:.2f} %",
                target=f"≤ {BYTES:.0f} B/token, mean loss within {LOSS} %",
                met=size <= BYTES and abs(loss) <= LOSS,
                ratio=DENSE / size,
                spread=(DENSE / size, DENSE / size),
                remark=f"loss {median(found[cache], 'loss'):.3f} and "
                f"{median(found[EXACT], 'loss'):.3f} nats on {ALL - TRAINED} held-out answers, "
                f"{TRAINED} learned; mean of {len(seeds)} seeds, each paired with the exact "
                "distribution's, with a 90 % t interval"
                + (f"; that interval ends beyond {LOSS} %" if abs(loss) + loss_half > LOSS else ""),
                numbers={"bytes_per_token": size, cache: found[cache], EXACT: found[EXACT]},
            )
        )
    return made
