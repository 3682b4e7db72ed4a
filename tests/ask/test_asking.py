import copy
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar

from distill.ask.budget import ask_best
from distill.ask.costs import Prices
from distill.ask.study import Group, NoLaw, Study, make_study, pick_groups, tokens_of
from distill.ask.subject import ask_loss, ask_samples, find_subject
from distill.ask.words import text_of
from distill.cli.main import main
from distill.core.errors import UserError
from distill.core.files import write_json
from distill.laws.choice import Group as LawGroup
from distill.laws.choice import Settings, Standing, fit_points
from distill.laws.fitted import FittedLaw, find_laws
from distill.laws.fitting import centre_of, fit_law
from distill.laws.forms import LAWS
from distill.laws.points import points_of
from distill.laws.records import record_law
from law_simulations import PAPER, table_of
from size_study import SIZES, TOKENS, TOKENS_PER_SAMPLE, own_runs, size_laws, size_runs, true_loss

pytestmark = pytest.mark.slow  # fits many laws

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def study() -> Study:
    return make_study(size_runs(), size_laws())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sizes")
    size_runs().to_parquet(path / "runs.parquet")
    write_json(path / "laws.json", size_laws())
    return path


def _group(study: Study, method: str = "sft") -> Group:
    (group,) = pick_groups(study, {"method": method}, None)
    return group


def _changed(change: Callable[[dict], None], runs: pd.DataFrame | None = None) -> Study:
    document = copy.deepcopy(size_laws())
    change(document)
    return make_study(size_runs() if runs is None else runs, document)


def _law(document: dict, **wanted: object) -> FittedLaw:
    laws = [FittedLaw(record) for record in document["laws"]]
    (law,) = find_laws(laws, target="loss", best=True, **wanted)  # type: ignore[arg-type]
    return law


def test_a_measured_student_is_answered_by_its_own_data_law(study: Study) -> None:
    group = _group(study)
    answer = ask_loss(find_subject(study, group, "d24"), 2_000_000)
    expected = _law(size_laws(), student="d24", method="sft").predict({"tokens": 2_000_000})
    for name in ("value", "low", "high", "run_low", "run_high"):
        assert answer["loss"][name] == pytest.approx(getattr(expected, name)[0])
        assert answer["perplexity"][name] == pytest.approx(math.exp(answer["loss"][name]))
    assert answer["loss"]["value"] == pytest.approx(true_loss(2_400_000, 2_000_000), rel=0.01)
    assert answer["samples"] == 2_000_000 / TOKENS_PER_SAMPLE
    runs = size_runs()
    there = runs[(runs["student"] == "d24") & (runs["method"] == "sft")]
    there = there[there["tokens_unique"] == 2_000_000]
    assert answer["measured"] == {"loss": pytest.approx(there["loss"].mean()), "runs": 1}
    assert answer["warnings"] == []


def test_a_size_that_was_not_measured_is_answered_by_the_joint_law(study: Study) -> None:
    answer = ask_loss(find_subject(study, _group(study, "kd"), size=3e6), 2e6)
    law = _law(size_laws(), student=None, method="kd", size="params")
    assert answer["loss"]["value"] == pytest.approx(
        law.predict({"params": 3e6, "tokens": 2e6}).value[0]
    )
    assert answer["loss"]["value"] == pytest.approx(true_loss(3e6, 2e6, "kd"), rel=0.01)
    assert answer["law_over"] == "size and data"
    assert answer["cost"]["train_flops"] == pytest.approx(6 * 3e6 * 2e6)


def test_without_its_own_law_a_student_is_answered_by_the_joint_one() -> None:
    def drop(document: dict) -> None:
        document["laws"] = [x for x in document["laws"] if x["selected"]["student"] != "d24"]

    study = _changed(drop)
    subject = find_subject(study, _group(study), "d24")
    assert (subject.law.selected["student"], subject.size) == (None, 2_400_000)


def test_extrapolation_is_warned_of_beyond_the_factor_and_says_it(study: Study) -> None:
    subject = find_subject(study, _group(study), "d24")
    inside, near, far = (ask_loss(subject, max(TOKENS) * k) for k in (1.1, 3.9, 10))
    assert [a["extrapolation"] for a in (inside, near, far)] == pytest.approx([1, 3.9, 10])
    assert [len(a["warnings"]) for a in (inside, near, far)] == [0, 0, 1]
    assert "factor of 10, more than 4" in far["warnings"][0]
    assert ask_loss(subject, max(TOKENS) * 10, max_factor=20)["warnings"] == []


def test_samples_needed_invert_the_curve_and_its_bands(study: Study) -> None:
    subject = find_subject(study, _group(study), "d24")
    target = float(subject.predict(1.3e6).value[0])
    answer = ask_samples(subject, target)
    assert answer["tokens"] == pytest.approx(1.3e6, rel=1e-4)
    assert answer["samples"] == pytest.approx(1.3e6 / TOKENS_PER_SAMPLE, rel=1e-4)
    assert subject.predict(answer["tokens_low"]).low[0] == pytest.approx(target, rel=1e-5)
    assert subject.predict(answer["tokens_high"]).high[0] == pytest.approx(target, rel=1e-5)
    assert subject.predict(answer["tokens_sure"]).run_high[0] == pytest.approx(target, rel=1e-5)
    assert answer["tokens_low"] < answer["tokens"] < answer["tokens_high"] < answer["tokens_sure"]


def test_a_loss_below_the_fitted_floor_is_not_reached(study: Study) -> None:
    subject = find_subject(study, _group(study), "d24")
    floor = subject.law.record["coefficients"]["E"]["value"]
    answer = ask_samples(subject, 0.7 * floor)
    assert (answer["reached"], answer["below_floor"]) == (False, True)
    for refused in (None, "unjudged"):
        subject.law.record["floor"]["refused"] = refused
        assert ask_samples(subject, 0.7 * floor)["floor_excludes"] == (refused is None)
    assert answer["floor"][0] == pytest.approx(floor, rel=1e-6)
    assert "below the fitted floor" in text_of("samples", answer)
    close = ask_samples(subject, 0.9999 * floor)
    assert (close["below_floor"], close["floor_excludes"]) == (True, False)
    # Just above the floor the curve gets there, but the interval has no upper end.
    answer = ask_samples(subject, 1.02 * floor)
    assert answer["reached"]
    assert answer["tokens_high"] is None


def test_without_a_law_the_refusal_gives_the_reason() -> None:
    def refuse(document: dict) -> None:
        for law in document["laws"]:
            law["best"] = False
        selected = {**document["laws"][0]["selected"], "student": "d24"}
        why = {"name": "data_power", "target": "loss", "selected": selected, "reason": "too few."}
        document["refused"].append(why)

    study = _changed(refuse)
    with pytest.raises(NoLaw, match=r"cannot tell for d24, sft: no law over data .*too few"):
        find_subject(study, _group(study), "d24")


def test_an_exponent_that_is_not_identifiable_carries_nothing_outside_the_runs() -> None:
    def blur(document: dict) -> None:
        for law in document["laws"]:
            law["coefficients"].get("beta", {})["identifiable"] = False

    study = _changed(blur)
    subject = find_subject(study, _group(study), "d24")
    assert ask_loss(subject, 1e6)["loss"]["value"] > 0
    with pytest.raises(NoLaw, match="beta of the law data_power is not identifiable"):
        ask_loss(subject, 3 * max(TOKENS))
    with pytest.raises(NoLaw, match="beta"):
        ask_samples(subject, float(subject.predict(5 * max(TOKENS)).value[0]))


def test_mistakes_name_what_there_is(study: Study) -> None:
    with pytest.raises(UserError, match="no student 'd7'; it has 'd6', 'd12'"):
        pick_groups(study, {}, "d7")
    with pytest.raises(UserError, match="no method 'rl'; it has 'sft', 'kd'"):
        pick_groups(study, {"method": "rl"}, None)
    with pytest.raises(NoLaw, match="knows no repeats, its runs have 1"):
        find_subject(study, _group(study), "d24", epochs=4)
    with pytest.raises(UserError, match="positive"):
        tokens_of(_group(study), -3, None)


def test_the_best_student_for_a_budget_is_what_brute_force_finds(study: Study) -> None:
    budget = 4e13
    found = ask_best(study, [_group(study)], "flops", budget, "training")
    joint = _law(size_laws(), student=None, method="sft", size="params")

    def loss(log_size: float) -> float:
        size = math.exp(log_size)
        return float(joint.predict({"params": size, "tokens": budget / 6 / size}).value[0])

    sizes = np.log(list(SIZES.values()))
    optimum = minimize_scalar(loss, bounds=(sizes[0], sizes[-1]), method="bounded")
    (between,) = [a for a in found["ranked"] if a["student"] is None]
    assert between["loss"]["value"] == pytest.approx(optimum.fun, rel=1e-4)
    assert between["params"] == pytest.approx(math.exp(optimum.x), rel=0.03)
    measured = {a["student"]: a for a in found["ranked"] if a["student"]}
    for name, size in SIZES.items():
        tokens = min(budget / 6 / size, 4 * max(TOKENS))
        law = _law(size_laws(), student=name, method="sft")
        assert measured[name]["tokens"] == pytest.approx(tokens)
        assert measured[name]["loss"]["value"] == pytest.approx(
            law.predict({"tokens": tokens}).value[0]
        )
        assert measured[name]["spent"] <= budget * (1 + 1e-9)
    values = [a["loss"]["value"] for a in found["ranked"]]
    assert values == sorted(values)


def test_no_student_is_credited_with_data_far_beyond_its_law(study: Study) -> None:
    found = ask_best(study, [_group(study)], "flops", 1e18)
    assert all(a["tokens"] <= 4 * max(TOKENS) * 1.0001 for a in found["ranked"])
    assert found["ranked"][0]["student"] == "d144"
    assert any("no more is counted" in text for text in found["ranked"][0]["warnings"])
    with pytest.raises(UserError, match=r"the budget buys .* the law was fitted from"):
        ask_best(study, [_group(study)], "flops", 1e6)
    with pytest.raises(UserError, match="--price-hour"):
        ask_best(study, [_group(study)], "money", 3.0, prices=Prices())


def test_a_table_of_ones_own_is_answered_in_tokens() -> None:
    runs, laws = own_runs()
    study = make_study(runs, laws)
    (group,) = study.groups
    assert group.tokens_per_sample is None
    answer = ask_loss(find_subject(study, group, size=3e6), 1e6)
    assert answer["samples"] is None
    assert answer["loss"]["value"] == pytest.approx(true_loss(3e6, 1e6), rel=0.01)
    assert "6 N D" in answer["warnings"][-1]
    assert ask_samples(find_subject(study, group, "2400000"), 3.0)["reached"]
    found = ask_best(study, [group], "flops", 4e13)
    assert found["ranked"] == ask_best(study, [group], "flops", 4e13, "training")["ranked"]
    assert found["scope"] == "training"
    with pytest.raises(UserError, match="counts no samples; give --tokens"):
        tokens_of(group, 5, None)
    with pytest.raises(UserError, match="do not state all seconds; ask with --budget-flops"):
        ask_best(study, [group], "hours", 4.0)


def _optimum(budget: float) -> tuple[float, float]:
    """The size and tokens of least true loss for FLOPs of training, 6 N D."""
    found = minimize_scalar(
        lambda log: true_loss(math.exp(log), budget / 6 / math.exp(log)),
        bounds=(math.log(1e3), math.log(1e14)),
        method="bounded",
    )
    return math.exp(found.x), budget / 6 / math.exp(found.x)


@pytest.mark.parametrize("budget", [1e17, 1e18])
def test_an_optimum_beyond_the_runs_is_stated_with_its_distance(budget: float) -> None:
    runs, laws = own_runs()
    study = make_study(runs, laws)
    found = ask_best(study, study.groups, "flops", budget)
    (place,) = found["beyond"]
    size, tokens = _optimum(budget)
    assert place["params"] == pytest.approx(size, rel=0.4)
    assert place["tokens"] == pytest.approx(tokens, rel=0.4)
    assert place["params_factor"] == pytest.approx(place["params"] / max(SIZES.values()))
    assert place["tokens_factor"] == pytest.approx(place["tokens"] / max(TOKENS))
    assert place["loss"] < found["ranked"][0]["loss"]["value"]
    assert not place["open"]
    text = text_of("best", found)
    assert "the optimum of all runs lies outside the runs" in text
    assert "times the largest measured" in text


def test_an_optimum_inside_the_runs_is_not_beyond() -> None:
    runs, laws = own_runs()
    study = make_study(runs, laws)
    assert ask_best(study, study.groups, "flops", 2e13)["beyond"] == []


def test_a_judged_joint_law_comes_before_an_unjudged_line() -> None:
    def unjudge(document: dict) -> None:
        for law in document["laws"]:
            if law["selected"]["student"] is not None:
                law["holdout"] = None

    study = _changed(unjudge)
    subject = find_subject(study, _group(study), "d24")
    assert "params" in subject.law.inputs
    own = _changed(lambda document: None)
    assert find_subject(own, _group(own), "d24").law.selected["student"] == "d24"


def test_warnings_of_a_law_travel_with_its_numbers(study: Study) -> None:
    answers = [
        ("loss", ask_loss(find_subject(study, _group(study), "d24"), 1e6)),
        ("samples", ask_samples(find_subject(study, _group(study), "d24"), 3.0)),
        ("best", ask_best(study, [_group(study)], "flops", 1e15)),
    ]
    for question, answer in answers:
        first = answer["ranked"][0] if question == "best" else answer
        assert first["law_warnings"]
        for text in first["law_warnings"]:
            assert f"warning: {text}" in text_of(question, answer)


def test_the_distillation_law_answers_for_another_teacher() -> None:
    law = LAWS["loss"]["distillation_reduced"]
    settings = Settings(starts=8)
    truth = {**PAPER, "kappa": 522.6 * 0.090 * 1.315 ** (-1 / 0.090)}
    truth = {name: truth[name] for name in law.names}
    rows = [
        {"params": n, "tokens": d, "epochs": 1.0, "teacher_loss": t}
        for n in (2e8, 5e8, 1e9, 3e9) for d in (5e9, 2e10, 1e11) for t in (2.0, 2.2, 2.5, 2.9)
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    frame["loss"] = law.predict(truth, {name: frame[name] for name in law.inputs})
    inputs = {name: frame[name].to_numpy() for name in law.inputs}
    fit = fit_law(law, inputs, frame["loss"].to_numpy(), starts=8,
                  initial=law.internal(truth, centre_of(inputs)))  # fmt: skip
    rng = np.random.default_rng(0)
    frame["loss"] *= np.exp(0.001 * rng.normal(size=len(frame)))
    points = points_of(
        table_of([{**row, "teacher": f"t{row['teacher_loss']}"} for row in
                  frame.to_dict("records")]), "loss", "params", False,
    )  # fmt: skip
    fitted = fit_points(law, points, settings, fit.theta)
    selected = dict.fromkeys(("teacher", "student", "size")) | {
        "method": "kd", "cache": "top", "curation": "raw", "init": "random", "group": "",
        "size": "params",
    }  # fmt: skip
    choice = {"by": "aicc", "chosen": law.name, "errors": {law.name: None}}
    record = record_law(
        fitted, LawGroup(points, "loss", selected), Standing(choice, True), settings
    )
    runs = frame.rename(columns={"tokens": "tokens_unique", "teacher_loss": "loss_teacher"})
    runs = runs.assign(method="kd", cache="top", curation="raw", init="random",
                       teacher=[f"t{loss}" for loss in frame["teacher_loss"]])  # fmt: skip
    study = make_study(runs, {"laws": [record], "refused": []})
    other = find_subject(study, study.groups[0], size=1e9, teacher_loss=2.35)
    answer = ask_loss(other, 2e10)
    expected = law.predict(truth, {"params": 1e9, "tokens": 2e10, "teacher_loss": 2.35})
    assert answer["loss"]["value"] == pytest.approx(float(expected[0]), rel=0.003)
    assert "teacher of loss 2.35" in text_of("loss", answer)
    assert answer["extrapolation"] == 1
    assert ask_loss(find_subject(study, study.groups[0], size=1e9), 2e10)["teacher_loss"] is None
    far = ask_loss(find_subject(study, study.groups[0], size=1e9, teacher_loss=1.0), 2e10)
    assert far["extrapolation"] == pytest.approx(2.0)


def test_another_teacher_needs_a_law_that_reads_its_loss(study: Study) -> None:
    with pytest.raises(NoLaw, match=r"no law of these runs reads the teacher's loss; .*leave"):
        find_subject(study, _group(study), "d24", teacher_loss=1.5)


def _run(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["ask", str(folder), *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_program_answers_in_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _run(folder, capsys, "loss", "--student", "d24", "--samples", "40000",
                        "--method", "kd", "--price-hour", "2")  # fmt: skip
    assert code == 0
    assert (
        "d24 (2,400,000 parameters), kd · top64, 1 epoch, 40,000 samples (2,000,000 tokens)" in out
    )
    for text in ("nats per token (90 % interval", "for a new run", "perplexity", "262 MB", "money"):
        assert text in out
    code, out, _ = _run(folder, capsys, "samples", "--params", "3e6", "--perplexity", "20")
    assert code == 0
    assert out.count("90 % interval") == 2
    code, out, _ = _run(folder, capsys, "best", "--budget-hours", "5")
    assert out.startswith(
        "Budget 5.00 hours for training, the teacher's text and soft targets.\nBest:"
    )
    code, out, _ = _run(folder, capsys, "laws", "--best")
    assert "of the loss, best of its group: teacher smol, method kd" in out
    assert "mean error" in out


def test_the_program_answers_in_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def strict(text: str) -> None:
        raise AssertionError(text)

    for arguments in (
        ["loss", "--params", "3e6", "--tokens", "1e6"],
        ["samples", "--student", "d24", "--loss", "1.9"],
        ["samples", "--student", "d24", "--loss", "0.1"],
        ["best", "--budget-flops", "1e14"],
        ["laws"],
    ):
        code, out, _ = _run(folder, capsys, *arguments, "--json")
        assert code == 0
        assert json.loads(out, parse_constant=strict)["schema"] == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["loss", "--student", "d7", "--samples", "3"], "no student 'd7'"),
        (["loss", "--student", "d24", "--samples", "-3"], "positive number"),
        (["loss", "--params", "nan", "--samples", "3"], "--params must be a positive number"),
        (["loss", "--student", "d6", "--tokens", "1e6", "--max-factor", "0"], "at least 1"),
        (["samples", "--student", "d24", "--perplexity", "1"], "above 1"),
        (["best", "--budget-money", "3"], "--price-hour"),
    ],
)
def test_a_mistake_is_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], text: str
) -> None:
    code, out, err = _run(folder, capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert text in err
    assert err.count("\n") == 1


def test_a_question_without_an_answer_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1: the command is right, the study has no answer."""
    for question, text in (
        (["loss", "--student", "d24", "--samples", "9", "--epochs", "4"], "knows no repeats"),
        (["best", "--budget-flops", "1e6"], "the law was fitted from"),
    ):
        code, out, err = _run(folder, capsys, *question)
        assert (code, out) == (1, "")
        assert err.startswith("Error: ")
        assert text in err
        assert err.count("\n") == 1
        code, out, again = _run(folder, capsys, *question, "--json")
        assert (code, again) == (1, err)
        assert json.loads(out) == {
            "schema": 1,
            "error": err.removeprefix("Error: ").rstrip("\n"),
            "exit_code": 1,
        }


@pytest.mark.parametrize("content", ["[]", "{}", '{"laws": [{}], "refused": []}', "3"])
def test_laws_of_another_kind_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    size_runs().to_parquet(tmp_path / "runs.parquet")
    (tmp_path / "laws.json").write_text(content)
    for question in (["laws"], ["best", "--budget-hours", "1"]):
        code, out, err = _run(tmp_path, capsys, *question)
        assert (code, out) == (2, "")
        assert err == (
            f"Error: {tmp_path}/laws.json is a record of another kind; delete it and run the "
            "workflow again\n"
        )


def test_an_unfinished_study_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = _run(tmp_path, capsys, "loss", "--student", "a", "--samples", "3")
    assert code == 2
    assert "run the study first" in err


def test_the_program_loads_no_torch() -> None:
    program = (
        "import sys, distill.ask.program; "
        "assert not {'torch', 'transformers', 'matplotlib'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
