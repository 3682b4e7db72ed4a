"""What a study costs besides its models, against the number of runs: 10 to 10,000.

Results are made up (a known law of size and data, with noise), the code is the study's own: the
plan with its estimates, the runs table, laws, answers, figures and the report. Each step has a
process of its own. The figure is docs/img/scale.svg and .png, the numbers docs/img/scale.csv.
"""

import json
import math
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import yaml

from distill.runtime.memory import peak_memory
from rows import Row

PROJECT = Path(__file__).parents[1]
SIZES = (10, 100, 1000, 10_000)
CROSSED = {10: (5, 2, 1, 1, 1), 100: (5, 5, 2, 2, 1), 1000: (10, 5, 2, 10, 1),
           10_000: (10, 5, 2, 10, 10)}  # fmt: skip
"""Students, sizes of data, methods, draws and seeds of a study of so many runs."""
WIDTHS = (64, 96, 128, 192, 256, 320, 384, 448, 512, 576)
SAMPLES = (40, 80, 160, 320, 640)
FLOOR = 1.1
PROPORTIONAL = 10 * 1.1
"""Most that ten times the runs may take, a tenth for chance."""


def study(runs: int) -> dict[str, Any]:
    """The default study with random students of many widths, crossed to so many trained runs."""
    config: dict[str, Any] = yaml.safe_load((PROJECT / "config.yaml").read_text())
    students, sizes, methods, draws, seeds = CROSSED[runs]
    shape = {"num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4}
    config["students"] = {
        f"w{width}": {
            "init": "random", "source": "smollm2-135m-instruct",
            "config": shape | {"hidden_size": width, "intermediate_size": 3 * width},
        }
        for width in WIDTHS[:students]
    }  # fmt: skip
    block = {
        "students": list(config["students"]), "teachers": ["smollm2"],
        "methods": ["kd", "sft"][:methods], "caches": ["even600"], "samples": SAMPLES[:sizes],
        "draws": list(range(draws)), "seeds": list(range(seeds)),
    }  # fmt: skip
    config["prompts"]["draw_pool"] = SAMPLES[-1]
    return config | {"study": "many", "runs": [block]}


def _plan(runs: int) -> Any:
    from distill.config.checks.study import parse_study
    from distill.plan.study import Plan

    return Plan(parse_study(json.loads(json.dumps(study(runs)))))


def _put(path: str | Path, content: Any) -> None:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))


def _body(width: int) -> int:
    """Parameters of a student's layers, about."""
    return 4 * (4 * width**2 + 9 * width**2)


def make_results(runs: int) -> None:
    """Write the records that training and evaluation would leave, in the current directory.

    Loss above the floor: 30 / body^.3 + 45 / tokens^.35 nats, the latter 0.9 times with soft
    targets, and 1 % of noise. A run has 254 answers, as in the default study.
    """
    import numpy as np
    import pyarrow as pa

    from distill.contracts.columns import keys_in
    from distill.core.files import sha256_of
    from distill.core.parquet import write_rows
    from distill.evaluation.instructions import instruction_sets

    plan, rng = _plan(runs), np.random.default_rng(7)
    sets = instruction_sets(plan.study.evaluate.generated_instructions)
    shape = [("row", pa.int64())]
    shape += [(f"teacher_{unit}", pa.float64()) for unit in ("flops", "seconds")]
    soft = [(f"target_{unit}", pa.float64()) for unit in ("flops", "seconds")]
    shared = {
        "reference": {"loss": 3.4, "bits_per_byte": 1.2},
        "versions": {"torch": "2.9", "transformers": "5"},
        "hardware": {"cpu": "synthetic", "cpus": 2, "gpu": None},
        "spec": {"generated_instructions": plan.study.evaluate.generated_instructions},
        "answers": None, "answers_validation": None, "job": {"seconds": 30.0},
        "responses": {"rows": 80, "finished_share": 0.9, "mean_tokens": 50.0},
    }  # fmt: skip

    def verdicts(rate: float) -> dict[str, Any]:
        found = {}
        for name, items in sets.items():
            passed = {item.id: bool(rng.random() < rate) for item in items}
            mean = sum(passed.values()) / len(passed)
            ends = {"low": max(0.0, mean - 0.1), "high": mean + 0.1}
            found[name] = {"rate": mean, **ends, "results": passed}
        return found

    def held_out(gap: float) -> dict[str, Any]:
        return dict.fromkeys(keys_in("heldout"), 0.5) | {
            "unseen_token_share": 0.1, "loss": FLOOR + gap, "loss_stderr": 0.02,
            "loss_teacher": FLOOR, "perplexity": math.exp(FLOOR + gap), "bits_per_byte": gap / 3,
            "kl_teacher": gap, "kl_floor": 0.0, "top1_agreement": math.exp(-gap / 4),
            "ece": 0.03 + gap / 40, "unigram_entropy": 6.4, "identity": None,
        }  # fmt: skip

    def answers(folder: Path, name: str) -> str:
        kinds = [("test", f"p{n}", f"What is {n}?") for n in range(4)]
        kinds += [(kind, item.id, item.prompt) for kind, items in sets.items() for item in items]
        lines = [
            {"set": kind, "id": key, "prompt": asked, "text": f"An answer of {name}. " * 4,
             "passed": None}
            for kind, key, asked in kinds
        ]  # fmt: skip
        _put(folder / "responses.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        return sha256_of(folder / "responses.jsonl")

    for path in plan.shards.files:
        file, rows = Path(path), int(Path(path).stem[1:])
        file.parent.mkdir(parents=True, exist_ok=True)
        cached = "/none/" not in path
        made = [{"row": row, "teacher_flops": 2e10, "teacher_seconds": 0.1, "target_flops": 1e9,
                 "target_seconds": 0.01} for row in range(rows)]  # fmt: skip
        write_rows(file, made, pa.schema(shape + (soft if cached else [])))
        cache = {"bytes_per_token": 120.0, "kept_mass": 0.99, "entropy": 0.9,
                 "manifest": {"scheme": "sampled", "teachers": []}}  # fmt: skip
        _put(file.with_suffix(".json"), {"rows": rows, "cache": cache if cached else None})
    for run in plan.runs:
        width, tokens = int(run.student[1:]), max(1, run.samples * 85)
        body, gap = _body(width), 8.0
        if run.samples:
            gap = 30 / body**0.3 + 45 / tokens**0.35 * (0.9 if run.method == "kd" else 1.0)
            gap *= math.exp(0.01 * rng.normal())
        params = body + 49152 * width
        folder = Path(plan.training.file(run, ""))
        record = shared | {
            "model": {"params": params, "params_non_embedding": body, "size_mb": params / 2**18,
                      "sha256": "0" * 64},
            "training": {
                "updates": run.samples // 8, "tokens_seen": run.samples * 85,
                "tokens_unique": run.samples * 85, "train_flops": 6 * params * run.samples * 170,
                "train_seconds": params * run.samples * 1e-8, "peak_memory_mb": 900.0,
            },
            "heldout": held_out(gap),
            "instructions": verdicts(0.1 + 0.2 / gap),
            "responses_sha256": answers(folder, run.student),
        }  # fmt: skip
        _put(folder / "metrics.json", record)
    for key, (kind, name) in plan.efficiency.by_key.items():
        size = 135e6 if kind == "teachers" else _body(int(name[1:])) * 3
        speed = {"tokens_per_second": 3e9 / size, "tokens_per_second_median": 3e9 / size,
                 "ttft_ms": 9.0, "peak_memory_mb": 500.0, "flops_per_token": 2 * size}  # fmt: skip
        _put(f"{plan.results}/efficiency/{key}.json", speed)
    for name in plan.teachers.models:
        model = {"params": 134_515_008, "params_non_embedding": 106_203_456, "size_mb": 513.0}
        folder = Path(plan.evaluation.teacher_file(name)).parent
        record = shared | {"heldout": held_out(0.0), "model": model,
                           "instructions": verdicts(0.4),
                           "responses_sha256": answers(folder, name)}  # fmt: skip
        _put(folder / "metrics.json", record)
    near = {"test_prompts": 80, "train_prompts": 640, "threshold": 0.7, "worst_similarity": 0.5,
            "pairs": []}  # fmt: skip
    _put(plan.pool.near_duplicates, near)


def _figures(runs: int) -> list[str]:
    """Names of the study's figures, as its rules list them."""
    from distill.plan.figures import figures_of

    plan = _plan(runs)
    return figures_of(plan.study, plan.runs)


def plan_step(runs: int) -> None:
    """The run table, every spec, and the estimates of the rule plan, models' sizes made up."""
    from distill.costs.jobs import Forecast
    from distill.costs.pricing import Models
    from distill.costs.show import write_plan
    from distill.costs.work import Architecture, Lengths, Machine, Speed
    from distill.models.flops import FlopModel

    plan = _plan(runs)
    for _ in plan.outputs.stored_specs():
        pass
    plan.outputs.table_spec()

    def model(width: int, layers: int) -> Architecture:
        body = layers * 13 * width**2
        flops = FlopModel(2 * body, 4 * layers * width, 2 * 49152 * width)
        return Architecture(body + 49152 * width, body, flops, width, 49152, layers, 4,
                            20 * layers * width, 2 * layers * width)  # fmt: skip

    teachers = {"smollm2": model(576, 30)}
    students = {name: model(int(name[1:]), 4) for name in plan.study.students}
    counts = dict.fromkeys(teachers, 8)
    machine = Machine(lambda _: Speed(5e10, 5e10), lambda *_: 1e-4, lambda _: "fp32", 1e-9, 0.01,
                      5.0, 1.0, 5e8)  # fmt: skip
    forecast = Forecast(plan, Models(teachers, students, students, counts, counts),
                        {"smollm2": Lengths(40.0, 64.0)}, machine, _figures(runs))  # fmt: skip
    calibration = {"seconds": 0.0, "threads": 1, "gemm_flops_per_s": {"fp32": 5e10},
                   "bf16_gains": False, "hardware": {"gpu": None, "cpu": "made up"}}  # fmt: skip
    write_plan(forecast, calibration, [2], 4, plan.results)


def collect_step(runs: int) -> None:
    """Rule collect_runs."""
    from distill.table.collect import collect

    plan = _plan(runs)
    teachers = [plan.evaluation.teacher_file(name) for name in plan.teachers.models]
    responses = [plan.training.file(run, "responses.jsonl") for run in plan.runs]
    responses += [str(Path(path).with_name("responses.jsonl")) for path in teachers]
    collect(
        spec=plan.outputs.table_spec(),
        metrics=[plan.training.file(run, "metrics.json") for run in plan.runs],
        responses=responses,
        shards=plan.shards.files,
        decisions=plan.curations.all_decisions,
        efficiency=plan.efficiency.files,
        teachers=teachers,
        near_duplicates=plan.pool.near_duplicates,
        searches=[],
        trained=[],
        benchmarks=[],
        out={
            "runs": f"{plan.results}/runs.parquet", "csv": f"{plan.results}/runs.csv",
            "references": f"{plan.results}/references.json",
            "samples": f"{plan.results}/samples.json",
        },
    )  # fmt: skip


def _table() -> tuple[Any, dict[str, Any]]:
    from distill.core.files import read_json
    from distill.core.parquet import read_frame

    return read_frame("results/many/runs.parquet"), read_json("results/many/references.json")


def laws_step(runs: int) -> None:
    """Rule fit_laws."""
    from distill.core.files import write_json
    from distill.laws.choice import Settings
    from distill.laws.fit import fit_laws
    from distill.laws.runs import trained_rows

    write_json("results/many/laws.json", fit_laws(trained_rows(*_table()), Settings()))


def answers_step(runs: int) -> None:
    """Rule answer_questions."""
    from distill.answers.questions import answer_questions
    from distill.core.files import read_json, write_json

    laws = read_json("results/many/laws.json")
    templates = PROJECT / "report/answers"
    found = answer_questions(*_table(), laws, _plan(runs).outputs.answer_spec(), templates)
    write_json("results/many/answers.json", found)


def figures_step(runs: int) -> None:
    """Rule plot_figures."""
    from distill.core.files import read_json
    from distill.figures.draw import draw_figure
    from distill.figures.figure import Inputs

    inputs = Inputs(*_table(), read_json("results/many/laws.json"))
    for name in _figures(runs):
        files = [f"results/many/figures/{name}.{form}" for form in ("svg", "png", "csv")]
        draw_figure(name, inputs, *files)


def report_step(runs: int) -> None:
    """Rule write_report."""
    from distill.core.files import read_json
    from distill.report.page import write_report

    folder, texts = Path("results/many"), PROJECT / "report"
    table, beside = _table()
    answers, samples, laws = (
        read_json(folder / f"{name}.json") for name in ("answers", "samples", "laws")
    )
    page = texts / "report.html.j2"
    figures = [folder / f"figures/{name}.svg" for name in _figures(runs)]
    write_report(table, beside, answers, samples, figures, texts, page,
                 folder / "report.html", laws)  # fmt: skip


THREADS = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
"""As Snakemake sets them for a job of one thread."""

STEPS: dict[str, Callable[[int], None]] = {
    "plan": plan_step,
    "runs table": collect_step,
    "laws": laws_step,
    "answers": answers_step,
    "figures": figures_step,
    "report": report_step,
}


def _work(step: str, runs: int, folder: str, pipe: Any) -> None:
    """Do one step in `folder`; send its seconds and the process's peak memory, or a traceback."""
    os.chdir(folder)
    try:
        began = time.perf_counter()
        make_results(runs) if step == "results" else STEPS[step](runs)
        pipe.send({"seconds": time.perf_counter() - began, "peak_mb": peak_memory("cpu") / 2**20})
    except BaseException:
        pipe.send(traceback.format_exc())


def run_step(step: str, runs: int, folder: Path) -> dict[str, float]:
    """Seconds (imports included) and peak megabytes (2^20 bytes) of a step in its own process.

    Raises:
        RuntimeError: It failed.
    """
    os.environ |= THREADS
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_work, args=(step, runs, str(folder), theirs))
    process.start()
    theirs.close()
    found = ours.recv()
    process.join()
    if isinstance(found, str):
        raise RuntimeError(f"{step} of {runs} runs failed:\n{found}")
    return dict(found)


def _draw(table: Any) -> None:
    """Seconds and peak memory of each step against the number of runs."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from distill.figures.figure import GREY
    from distill.figures.styles import OKABE_ITO, STYLE
    from distill.figures.ticks import set_ticks

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(cast(Any, STYLE | {"font.size": 9}))
        figure = Figure(figsize=(8.5, 4), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, 2)
        for axes, column, label in zip(
            panels, ("seconds", "peak_mb"), ("seconds", "peak memory, MB"), strict=True
        ):
            for colour, step in zip(OKABE_ITO, STEPS, strict=False):
                own = table[table["step"] == step]
                axes.plot(own["runs"], own[column], color=colour, marker="o", ms=4, label=step)
            axes.set(xscale="log", yscale="log", xlabel="runs", ylabel=label)
            set_ticks(axes.xaxis, "log")
            set_ticks(axes.yaxis, "log")
        reach = (table["runs"].max() / 10, table["runs"].max())
        most = table["seconds"].max()
        panels[0].plot(reach, (most / 10, most), color=GREY, ls=":", label="proportional")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=7)
        for form in ("svg", "png"):
            no_date = {"Date": None} if form == "svg" else {}
            figure.savefig(PROJECT / f"docs/img/scale.{form}", dpi=150, metadata=no_date)


def measure() -> list[Row]:
    """Every step at every number of runs, once; the figure, and one line per step."""
    import pandas as pd

    found: list[dict[str, Any]] = []
    sizes: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as root:
        for runs in SIZES:
            folder = Path(root, str(runs))
            folder.mkdir()
            run_step("results", runs, folder)
            for step in STEPS:
                found.append({"runs": runs, "step": step, **run_step(step, runs, folder)})
                print(found[-1], flush=True)
            sizes[runs] = (folder / "results" / "many" / "report.html").stat().st_size / 1e6
            shutil.rmtree(folder)
            table = pd.DataFrame(found)
            table.to_csv(PROJECT / "docs/img/scale.csv", index=False, float_format="%.2f")
            _draw(table)
    return [_row(step, table[table["step"] == step], sizes) for step in STEPS]


def _row(step: str, own: Any, sizes: dict[int, float]) -> Row:
    seconds, memory = own["seconds"].tolist(), own["peak_mb"].tolist()
    remark = f"{memory[0]:,.0f} MB at 10 runs, {memory[-1]:,.0f} MB at 10,000; one call each"
    if step == "report":
        remark += "; the page has " + ", ".join(f"{size:.1f}" for size in sizes.values()) + " MB"
    return Row(
        what=f"Synthetic study: {step}",
        against="10, 100, 1,000 and 10,000 runs",
        value=" · ".join(f"{each:.1f}" for each in seconds) + " s",
        target="at most proportional from 1,000 to 10,000",
        met=seconds[-1] <= PROPORTIONAL * seconds[-2],
        remark=remark,
        numbers={"runs": list(SIZES), "seconds": seconds, "peak_mb": memory, "page_mb": sizes},
    )


if __name__ == "__main__":
    root = Path(sys.argv[2])
    for size in map(int, sys.argv[3:]):
        folder = root / str(size)
        folder.mkdir(parents=True, exist_ok=True)
        for step in sys.argv[1].split(","):
            print(size, step, run_step(step, size, folder), flush=True)
