"""Answers from fitted laws, in worlds whose truth is known: each answer both ways."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distill.answers.laws import claims, collapse, compute_optimal, data_needed, pairs, pilot
from distill.answers.laws.advice import advice_answers
from distill.answers.laws.all import PREDICTED, answer_law_questions, predicted_answers
from distill.answers.laws.compute_optimal import SCENARIOS, Cost, compute_optimal_answers, optimum
from distill.answers.laws.exponents import (
    DIFFERENCE,
    EXPONENTS,
    exponent_answers,
    method_differences,
)
from distill.answers.laws.teacher_ratio import RATIO, teacher_ratio_answers
from distill.laws.choice import Settings
from distill.laws.curves import Curve, curve_of, differences, law_rows
from distill.laws.fitted import FittedLaw
from distill.laws.forms import LAWS
from distill.laws.intervals import Uncertainty
from distill.laws.points import points_of
from distill.stats.intervals import Interval
from law_worlds import CENTRE_D, CENTRE_N, SIZES, TRUTH, chinchilla, fit, make_rows, only

pytestmark = pytest.mark.slow  # fits many laws

FEW = Settings(starts=8)
KD = chinchilla
SFT = {"method": "sft", "seed": 1}


def steeper(params: float, tokens: float) -> float:
    return chinchilla(params, tokens, beta=0.6)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """kd with β 0.4 and sft with β 0.6."""
    return pd.concat([make_rows(), make_rows(steeper, **SFT)], ignore_index=True)


@pytest.fixture(scope="module")
def laws(rows: pd.DataFrame) -> list[FittedLaw]:
    return fit(rows)


def exact(name: str, ranges: Mapping[str, Sequence[float]], **coefficients: float) -> Curve:
    """A law known without error."""
    law = LAWS["loss"][name]
    zero = np.zeros((len(law.names), len(law.names)))
    found = Uncertainty(zero, zero, np.zeros(2), np.zeros((2, 2)), np.zeros(len(law.names)))
    return Curve(law, law.internal(coefficients, {}), {}, found, ranges)


RANGES = {"params": (6e5, 2.4e7), "tokens": (1.25e5, 4e6), "epochs": (1.0, 32.0)}
PLAIN = {
    "E": 1.5, "A": CENTRE_N**0.35, "alpha": 0.35, "B": CENTRE_D**0.4, "beta": 0.4,
}  # fmt: skip
NO_FLOPS = np.array([])


def told(answer: Mapping[str, Any]) -> bool:
    """Whether an answer is one, and not a refusal; words and numbers must agree."""
    refused = bool(answer["numbers"].get("cannot_tell"))
    assert refused == answer["answer"].startswith("Cannot tell")
    assert not refused or "; needs " in answer["answer"]
    return not refused


def test_dearest_runs_are_told_with_their_skill_or_refused(laws: list[FittedLaw]) -> None:
    found = [a for a in predicted_answers(laws, {}) if a["method"] == "kd"]
    assert len(found) == 1
    assert told(found[0])
    held = found[0]["numbers"]["holdout"]
    assert held["mean_relative_error"] < 0.01
    assert held["skill_vs_loglinear"] > 0.3
    assert "below that of a straight line" in found[0]["answer"]
    naive = FittedLaw({**laws[0].record, "holdout": {**held, "skill_vs_loglinear": -0.5}})
    assert "no better than a straight line" in predicted_answers([naive], {})[0]["answer"]
    single = FittedLaw({**laws[0].record, "holdout": {**held, "runs": 1}})
    assert "missed the run with the most data by" in predicted_answers([single], {})[0]["answer"]
    unjudged = FittedLaw({**laws[0].record, "holdout": None})
    assert not told(predicted_answers([unjudged], {})[0])
    assert not told(only(predicted_answers([], {"refused": []}), PREDICTED))


def test_exponents_cover_the_truth_and_need_twenty_fold_sizes(laws: list[FittedLaw]) -> None:
    kd = only(exponent_answers(laws), EXPONENTS, method="kd")
    assert told(kd)
    for entry, truth in ((kd["numbers"]["alpha"]["params"], 0.35), (kd["numbers"]["beta"], 0.4)):
        assert entry["low"] - 0.01 < truth < entry["high"] + 0.01
        assert entry["high"] - entry["low"] < 0.1
    small = make_rows(sizes=SIZES[:4])
    narrow = only(exponent_answers(fit(small, sizes=("params",))), EXPONENTS)
    assert not narrow["numbers"]["alpha"]["params"]["claimed"]
    assert "Cannot tell α" in narrow["answer"]
    assert "below 20" in narrow["answer"]


def test_a_difference_of_exponents_has_its_own_interval(laws: list[FittedLaw]) -> None:
    apart = only(method_differences(laws, []), DIFFERENCE)
    beta, alpha = apart["numbers"]["beta"], apart["numbers"]["alpha_params"]
    assert beta["low"] < -0.2 + 0.01
    assert beta["high"] > -0.2 - 0.01
    assert beta["high"] < 0
    assert alpha["low"] < 0 < alpha["high"]
    assert "smaller β" in apart["answer"]
    assert "no clear difference in α" in apart["answer"]
    # Another start is another group: never compared as a method, nor pooled.
    record = laws[2].record
    other = FittedLaw({**record, "selected": {**record["selected"], "init": "cut"}})
    assert method_differences([laws[0], other], []) == []
    # Against a corpus there is a question of its own.
    assert method_differences(laws, ["sft"]) == []


def test_differences_are_as_wide_as_two_independent_laws() -> None:
    law = LAWS["loss"]["data_power"]
    found = Uncertainty(
        np.eye(3) * 1e-4, np.eye(3) * 0, np.array([1.0, 0.0]), np.diag([1e-12, 0]), np.zeros(3)
    )
    curve = Curve(law, np.zeros(3), {}, found, {})
    one = np.array([[1.0, 0.0, 0.0]])
    assert differences(curve, one)[0] == pytest.approx(1.6449 * 0.01, rel=1e-3)
    assert differences(curve, one, curve, one)[0] == pytest.approx(
        1.6449 * 0.02**0.5 * 0.1, rel=1e-3
    )
    # The test set moves both laws together.
    none = np.zeros((3, 3))
    moved = Uncertainty(none, none, np.zeros(2), np.zeros((2, 2)), np.ones(3))
    shifted = Curve(law, np.zeros(3), {}, moved, {})
    assert differences(shifted, one)[0] == pytest.approx(1.6449, rel=1e-3)
    assert differences(shifted, one, shifted, one)[0] == 0


def ratio_world(best: float | None, teachers: Sequence[float], seed: int = 3) -> pd.DataFrame:
    """Teachers of several sizes; the loss has its minimum at a ratio, or falls with it."""

    def with_ratio(teacher: float) -> Any:
        def truth(params: float, tokens: float) -> float:
            x = np.log(teacher / params / (best or 1.0))
            return chinchilla(params, tokens) * float(np.exp(0.03 * x**2 if best else -0.03 * x))

        return truth

    return pd.concat(
        [
            make_rows(with_ratio(t), SIZES[:3], (2.5e5, 1e6), teacher_params=t, teacher=f"t{t:.0f}",
                      seed=seed + i, noise=0.002)
            for i, t in enumerate(teachers)
        ],
        ignore_index=True,
    )  # fmt: skip


def test_the_best_ratio_is_found_where_it_shows_and_only_there() -> None:
    teachers = (3e6, 9e6, 3e7, 1e8, 3e8)
    found = teacher_ratio_answers(ratio_world(15.0, teachers))
    answer = only(found, RATIO)
    assert told(answer)
    assert answer["numbers"]["low"] < 15 < answer["numbers"]["high"] < 20
    claim = only(claims.claim_answers([], [], found), claims.CLAIM + "the best teacher")
    assert claim["numbers"]["verdict"] == claims.SUPPORTED
    far = teacher_ratio_answers(ratio_world(45.0, teachers))
    claim = only(claims.claim_answers([], [], far), claims.CLAIM + "the best teacher")
    assert claim["numbers"]["verdict"] == claims.CONTRADICTED
    two = only(teacher_ratio_answers(ratio_world(15.0, teachers[:2])), RATIO)
    assert not told(two)
    assert two["numbers"]["teachers"] == 2
    monotone = only(teacher_ratio_answers(ratio_world(None, teachers)), RATIO)
    assert not told(monotone)
    assert "curvature" in monotone["answer"]
    edge = only(teacher_ratio_answers(ratio_world(900.0, teachers)), RATIO)
    assert not told(edge)
    assert "ends" in edge["answer"]


def bent(params: float, tokens: float) -> float:
    """Steeper by 0.6 below 3M parameters, 5 % of a teacher of 60M."""
    size = (params / 3e6) ** -0.3 * (1 + (3e6 / params) ** 5) ** (0.6 * 0.2)
    return float(1.5 + size + (tokens / 5e5) ** -0.4)


def test_collapse_needs_a_break_that_predicts_beyond_chance() -> None:
    sizes, tokens = tuple(np.geomspace(4e5, 4e7, 8)), (2e5, 4e5, 8e5, 1.6e6)
    broken = make_rows(bent, sizes, tokens, teacher_params=6e7)
    laws = fit(broken, sizes=("params",))
    answers = collapse.collapse_answers(broken, laws, FEW, replicates=19)
    answer = only(answers, collapse.COLLAPSE)
    assert told(answer)
    assert answer["numbers"]["p_value"] <= 0.05
    assert 2.5e6 < answer["numbers"]["break_low"] < answer["numbers"]["break_high"] < 3.6e6
    claim = only(claims.claim_answers([], [], answers), claims.CLAIM + "students below 5 %")
    assert claim["numbers"]["verdict"] == claims.SUPPORTED
    smooth = make_rows(sizes=sizes, tokens=tokens, seed=1)
    unbroken = collapse.collapse_answers(smooth, laws, FEW, replicates=19)
    assert not told(only(unbroken, collapse.COLLAPSE))
    claim = only(claims.claim_answers([], [], unbroken), claims.CLAIM + "students below 5 %")
    assert claim["numbers"]["verdict"] == claims.NOT_TESTED
    few = collapse.collapse_answers(broken[broken["params"] < 3e6], laws, FEW, replicates=19)
    assert "sizes of student" in only(few, collapse.COLLAPSE)["answer"]


def test_data_for_a_target_meets_the_closed_form() -> None:
    curve = exact("chinchilla", RANGES, **PLAIN)
    target = chinchilla(3e6, 2e6)
    found = data_needed.data_for(curve, float(np.log(target)), {"params": 3e6})
    assert found is not None
    assert found.value == pytest.approx(2e6, rel=1e-3)
    assert data_needed.data_for(curve, float(np.log(2.4)), {"params": 3e6}) is None


def test_a_target_is_reachable_near_the_data_or_refused(
    rows: pd.DataFrame, laws: list[FittedLaw]
) -> None:
    def ask(target: float) -> Mapping[str, Any]:
        answers = data_needed.data_answers(rows, laws, target)
        return only(answers, data_needed.DATA_NEEDED, method="kd")

    near = ask(chinchilla(SIZES[-1], 3e6))
    assert told(near)
    assert near["numbers"]["low"] < 3e6 < near["numbers"]["high"]
    assert "no amount of data" in ask(1.9)["answer"]
    assert not told(ask(chinchilla(SIZES[-1], 4e7)))
    assert not told(ask(1.9))


def scratch_world(share: float, **changes: float) -> pd.DataFrame:
    """Distilled students need a share of the data of those from a corpus."""

    def distilled(params: float, tokens: float) -> float:
        return chinchilla(params, tokens / share, **changes)

    kinds: list[dict[str, Any]] = [{"truth": distilled}, {"method": "corpus", "seed": 9}]
    return pd.concat(
        [make_rows(reference=True, sizes=SIZES[1:], **kind) for kind in kinds], ignore_index=True
    )


COSTS = {"t": Cost(NO_FLOPS, NO_FLOPS, 6e6, "FLOPs per token taken as 2 N.")}


def test_scratch_is_compared_only_with_a_corpus() -> None:
    rows = scratch_world(0.15)
    answers = data_needed.scratch_answers(rows, ["corpus"], COSTS, FEW)
    share = only(answers, data_needed.AGAINST_SCRATCH)
    assert told(share)
    assert share["numbers"]["judged_on"] == "reference"
    assert 0.1 < share["numbers"]["low"] < 0.15 < share["numbers"]["high"] < 0.2
    even = only(answers, data_needed.BREAK_EVEN)
    assert even["numbers"]["reached"] is False
    assert "Not reached" in even["answer"]
    efficiency = only(answers, data_needed.EFFICIENCY)["numbers"]
    # 3 F(N_S) with F = 2 N at 24M, against the teacher's 6e6 on top of it.
    assert efficiency["best_case_value"] == pytest.approx(1 / share["numbers"]["value"])
    assert efficiency["teacher_inference_value"] == pytest.approx(
        1 / share["numbers"]["value"] / (1 + 6e6 / (6 * SIZES[-1]))
    )
    verdicts = claims.claim_answers([], ["corpus"], answers)
    for claim in ("distillation needs 10 to 20 %", "distillation is 5 to 10"):
        verdict = only(verdicts, claims.CLAIM + claim)["numbers"]["verdict"]
        assert verdict == claims.SUPPORTED
    for question in data_needed.scratch_answers(rows, [], COSTS, FEW):
        assert not told(question)
        assert "corpus" in question["answer"]


def test_break_even_lies_where_the_laws_cross() -> None:
    rows = scratch_world(1.0, beta=0.15)
    answers = data_needed.scratch_answers(rows, ["corpus"], COSTS, FEW)
    even = only(answers, data_needed.BREAK_EVEN)
    assert told(even)
    assert "below it distillation wins" in even["answer"]
    assert even["numbers"]["low"] < CENTRE_D < even["numbers"]["high"]
    apart = only(pairs.scratch_differences(rows, ["corpus"], FEW), pairs.AGAINST_SCRATCH)
    assert apart["numbers"]["beta"]["high"] < 0
    assert "smaller β" in apart["answer"]


def test_the_best_case_is_chinchillas_closed_form() -> None:
    curve, budget = exact("chinchilla", RANGES, **PLAIN), 1e14
    cost = Cost(NO_FLOPS, NO_FLOPS, 2.4e8, "")
    best = optimum(curve, cost, budget, SCENARIOS["best_case"])
    a, b = TRUTH["alpha"], TRUTH["beta"]
    ratio = a * PLAIN["A"] / (b * PLAIN["B"])
    size = ratio ** (1 / (a + b)) * (budget / 6) ** (b / (a + b))
    assert best is not None
    assert not best.edge
    assert best.params.value == pytest.approx(size, rel=0.02)
    assert best.tokens.value == pytest.approx(budget / 6 / size, rel=0.02)
    assert best.teacher_share.value == 0
    # A teacher that must write every token makes a larger student pay.
    dear = optimum(curve, cost, budget, SCENARIOS["teacher_inference"])
    assert dear is not None
    assert dear.params.value > 1.5 * size
    spent = 6 * dear.params.value * dear.tokens.value + 2.4e8 * dear.tokens.value
    assert spent == pytest.approx(budget)
    # Pre-training is a fixed cost: with it paid on top, the split is the same.
    paid = 3 * 2.4e8 * 1e5
    pretrained = optimum(curve, cost, budget + paid, SCENARIOS["teacher_pretraining"], 1e5)
    assert pretrained is not None
    assert pretrained.params.value == best.params.value
    assert optimum(curve, cost, paid, SCENARIOS["teacher_pretraining"], 1e5) is None


def test_repeats_and_text_are_split_as_by_brute_force() -> None:
    curve = exact("chinchilla_constrained", RANGES, **PLAIN, **{"R*": 5.0})
    cost, budget = Cost(NO_FLOPS, NO_FLOPS, 2.4e8, ""), 1e14
    best = optimum(curve, cost, budget, SCENARIOS["teacher_inference"], most_epochs=32.0)
    assert best is not None
    loss = np.inf
    for size in np.geomspace(1e5, 1e9, 300):
        for epochs in np.geomspace(1, 32, 60):
            tokens = budget / (6 * size * epochs + 2.4e8)
            worth = tokens * (1 + 5 * (1 - np.exp(-(epochs - 1) / 5)))
            here = chinchilla(size, worth)
            if here < loss:
                loss, share = here, 2.4e8 / (6 * size * epochs + 2.4e8)
    assert np.exp(best.loss) == pytest.approx(loss, rel=1e-3)
    assert best.teacher_share.value == pytest.approx(share, abs=0.05)


def test_scenarios_want_a_stated_teacher_and_say_when_they_leave_the_range(
    rows: pd.DataFrame, laws: list[FittedLaw]
) -> None:
    mine = [law for law in laws if law.selected["method"] == "kd"]
    cost = {"t": Cost(NO_FLOPS, NO_FLOPS, 2.4e8, "")}
    unstated = compute_optimal_answers(rows, mine, cost, {})
    names = {a["numbers"]["scenario"]: told(a) for a in unstated if "scenario" in a["numbers"]}
    assert names == {
        "best_case": True, "teacher_inference": True, "teacher_pretraining": False,
        "teacher_inference_and_pretraining": False,
    }  # fmt: skip
    stated = compute_optimal_answers(rows, mine, cost, {"t": 1e6})
    assert all(told(a) for a in stated if "scenario" in a["numbers"])
    dear = next(a for a in stated if a["numbers"].get("scenario") == "teacher_inference")
    assert not dear["numbers"]["budget_4"]["inside_measured_range"]
    assert "times above the largest measured" in dear["answer"]
    entry = dear["numbers"]["budget_1"]["params"]
    assert entry["low"] < entry["value"] < entry["high"]
    assert not told(only(stated, compute_optimal.TEACHER_SHARE))
    assert not any(told(a) for a in compute_optimal_answers(rows, [], cost, {}))


def test_the_pilot_is_the_smallest_that_keeps_its_promise(rows: pd.DataFrame) -> None:
    errors = [0.2, 0.015, 0.04, 0.012, 0.004]
    ladder = [{"error": error, "runs": i} for i, error in enumerate(errors)]
    found = {k: v and v["runs"] for k, v in pilot.smallest_pilots(ladder).items()}
    # 0.015 was luck at 2 %: the next pilot missed.
    assert found == {0.01: 4, 0.02: 3, 0.05: 1, 0.1: 1}
    missed = pilot.smallest_pilots([{"error": 0.3, "runs": 1}])
    assert set(missed.values()) == {None}
    points = points_of(rows[rows["method"] == "kd"], "loss", "params", True)
    made = pilot.pilot_ladder(points, LAWS["loss"]["chinchilla"], FEW)
    shares = [one["compute_share"] for one in made]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(31 / 32)
    assert made[-1]["error"] < 0.01


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.32, 0.48, claims.SUPPORTED),
        (0.3, 0.5, claims.SUPPORTED),
        (0.51, 0.6, claims.CONTRADICTED),
        (0.1, 0.29, claims.CONTRADICTED),
        (0.25, 0.4, claims.NOT_TESTED),
        (None, 0.4, claims.NOT_TESTED),
        (0.6, None, claims.CONTRADICTED),
        (None, None, claims.NOT_TESTED),
    ],
)
def test_a_verdict_needs_the_whole_interval(
    low: float | None, high: float | None, expected: str
) -> None:
    assert claims.verdict(low, high, claims.ALPHA_DISTILLED) == expected


def test_all_measures_of_size_must_agree_on_a_claim(laws: list[FittedLaw]) -> None:
    kd = only(claims.claim_answers(laws, [], []), claims.CLAIM + "α is 0.3", method="kd")
    assert kd["numbers"]["verdict"] == claims.SUPPORTED
    scratch = claims.claim_answers(laws, ["kd"], [])
    kd = only(scratch, claims.CLAIM + "α is 0.5 to 0.7")
    assert kd["numbers"]["verdict"] == claims.CONTRADICTED
    split = claims.claim_answer(
        claims.ALPHA_DISTILLED,
        [claims.Measured(None, [("a", 0.4, 0.35, 0.45), ("b", 0.6, 0.55, 0.65)])], "", "",
    )  # fmt: skip
    assert split[0]["numbers"]["verdict"] == claims.NOT_TESTED


def test_curation_wants_sizes_draws_and_equal_tokens() -> None:
    def curated(params: float, tokens: float) -> float:
        return chinchilla(params, tokens, alpha=0.5)

    grid: dict[str, Any] = {"tokens": (2.5e5, 1e6, 4e6), "draws": 3, "reference": True}
    raw = make_rows(noise=0.002, **grid)
    clean = make_rows(curated, noise=0.002, curation="clean", seed=5, **grid)

    def ask(*parts: pd.DataFrame) -> Mapping[str, Any]:
        found = pairs.curation_differences(pd.concat(parts, ignore_index=True), FEW)
        return only(found, pairs.CURATION)

    answer = ask(raw, clean)
    assert told(answer)
    assert (
        answer["numbers"]["alpha_params"]["low"] < 0.15 < answer["numbers"]["alpha_params"]["high"]
    )
    claim = only(claims.claim_answers([], [], [answer]), claims.CLAIM + "curated")
    assert claim["numbers"]["verdict"] == claims.SUPPORTED
    assert not told(ask(raw))
    assert "draws" in ask(raw, clean[clean["draw"] < 2])["answer"]
    assert "equal tokens" in ask(raw, clean.assign(tokens=clean["tokens"] * 0.6))["answer"]


def test_advice_follows_what_would_lower_the_loss() -> None:
    def advise(**changes: float) -> Mapping[str, Any]:
        def truth(params: float, tokens: float) -> float:
            return chinchilla(params, tokens, **changes)

        rows = make_rows(truth)
        return advice_answers(rows, fit(rows, sizes=("params",)), [])[0]

    data = advise(A=0.1, B=2.0)
    assert data["numbers"]["recommended"] == "tokens"
    assert "data ran out" in data["answer"]
    size = advise(A=2.0, B=0.1)
    assert size["numbers"]["recommended"] == "params"
    assert "larger student" in size["answer"]


def test_every_question_is_answered_from_a_runs_table_as_plain_json(
    rows: pd.DataFrame, laws: list[FittedLaw]
) -> None:
    runs = rows[rows["method"] == "kd"].rename(
        columns={"flops": "train_flops", "gap": "kl_teacher"}
    )
    runs = runs.drop(columns=["tokens", "epochs", "teacher_loss", "reference"]).assign(
        samples=None, tokens_unique=runs["tokens"], tokens_seen=runs["tokens"], loss_teacher=1.2
    )
    back = law_rows(runs, None)
    assert back["tokens"].tolist() == runs["tokens_unique"].tolist()
    assert back["teacher_params"].eq(1.2e8).all()
    mine = [law for law in laws if law.selected["method"] == "kd"][:1]
    answers = answer_law_questions(runs, mine, {"refused": []}, None, {}, replicates=1)
    json.dumps(answers, allow_nan=False)
    assert {
        "question",
        "teacher",
        "student",
        "method",
        "label",
        "answer",
        "evidence",
        "numbers",
    } == {key for answer in answers for key in answer}
    replies = [a for a in answers if a["question"].startswith(claims.CLAIM)]
    assert len(replies) == 8
    assert {claim["numbers"]["verdict"] for claim in replies} == {
        claims.SUPPORTED, claims.NOT_TESTED,
    }  # fmt: skip
    wanted = only(answers, "What would turn")["numbers"]["wanted"]
    assert any("corpus" in entry["add"] for entry in wanted)
    assert "no evidence far beyond" in only(answers, "How far")["answer"]


def test_samples_of_a_law_spread_as_its_covariance(laws: list[FittedLaw]) -> None:
    curve = curve_of(laws[0])
    beta = curve.law.names.index("beta")
    drawn = np.exp(curve.samples(4000, seed=1)[:, beta])
    entry = laws[0].record["coefficients"]["beta"]
    assert np.quantile(drawn, 0.95) - np.quantile(drawn, 0.05) == pytest.approx(
        entry["high"] - entry["low"], rel=0.12
    )


def test_intervals_scale_and_tell_their_sign() -> None:
    assert Interval(0.2, 0.1, 0.3).scaled(100) == Interval(20.0, 10.0, 30.0)
    assert [Interval(0, *ends).sign for ends in ((1, 2), (-2, -1), (-1, 1), (None, -1))] == [
        1, -1, 0, -1,
    ]  # fmt: skip
