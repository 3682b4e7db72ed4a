"""Laws: worked numbers, gradients, published coefficients."""

import numpy as np
import pytest
from scipy.optimize import least_squares

import law_simulations
from distill.laws.fitting import HUBER_DELTA, centre_of, descend, fit_law, huber, starting_points
from distill.laws.forms import LAWS
from law_worlds import chinchilla_points

ALL = [(target, name) for target, laws in LAWS.items() for name in laws]


def some_inputs(count: int = 12) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "params": rng.uniform(1e6, 1e8, count),
        "tokens": rng.uniform(1e6, 1e8, count),
        "epochs": rng.uniform(1.0, 6.0, count),
        "teacher_loss": rng.uniform(1.5, 2.5, count),
        "teacher_params": rng.uniform(1e8, 1e9, count),
    }


@pytest.mark.slow
@pytest.mark.parametrize(("target", "name"), ALL)
def test_gradients_are_those_of_finite_differences(target: str, name: str) -> None:
    law, inputs = LAWS[target][name], some_inputs()
    y = np.linspace(2.0, 4.0, 12)
    rng = np.random.default_rng(1)
    points = starting_points(law, y, 20, 1)
    points = points + 0.1 * rng.normal(size=points.shape)
    x = law.centred(inputs, centre_of({key: inputs[key] for key in law.inputs}))
    gradient = law.curve(points, x)[1]
    step = 1e-6
    for place in range(points.shape[1]):
        move = np.zeros(points.shape[1])
        move[place] = step
        slope = (law.curve(points + move, x)[0] - law.curve(points - move, x)[0]) / (2 * step)
        # A difference of logs of size |L| is known to about 1e-16 |L| / step.
        rounding = 1e-8 + 2e-9 * np.abs(law.curve(points, x)[0]).max()
        np.testing.assert_allclose(gradient[:, place], slope, rtol=1e-5, atol=rounding)


@pytest.mark.slow
@pytest.mark.parametrize(("target", "name"), ALL)
def test_many_starts_at_once_are_the_same_as_one_by_one(target: str, name: str) -> None:
    law, inputs = LAWS[target][name], some_inputs()
    points = starting_points(law, np.linspace(2.0, 4.0, 12), 5, 0)
    x = law.centred(inputs, {})
    together = law.curve(points, x)
    for row, point in enumerate(points):
        alone = law.curve(point, x)
        np.testing.assert_allclose(together[0][row], alone[0], rtol=1e-12)
        np.testing.assert_allclose(together[1][row], alone[1], rtol=1e-12)


@pytest.mark.parametrize(("epochs", "worth"), [(1, 1.0), (2, 1.968), (4, 3.726), (16, 10.583)])
def test_repeated_tokens_are_worth_what_muennighoff_says(epochs: int, worth: float) -> None:
    law = LAWS["gap"]["data_constrained"]
    coefficients = {"B": 7.0, "beta": 1.0, "R*": 15.39}
    value = law.predict(coefficients, {"tokens": 1000.0, "epochs": float(epochs)})[0]
    assert 7.0 / value / 1000.0 == pytest.approx(worth, abs=5e-4)


def test_excess_parameters_decay_as_repeated_data_does() -> None:
    """Muennighoff 2023, Eq. 7, with the coefficients of the paper, against the formula by hand."""
    known = {"E": 1.869, "A": 520.8, "alpha": 0.3527, "B": 1487.6, "beta": 0.3527}
    known |= {"R*": 15.39, "R_N*": 5.31}
    unique, epochs = 1e8, np.array([1.0, 4.0, 44.0])
    ratio = (known["A"] / known["B"]) ** (1 / (2 * known["alpha"]))
    suits = unique * ratio * ratio
    for size in (2.8e9, suits / 2):
        base = min(size, suits)
        left = base * (1 + 5.31 * (1 - np.exp(-(size / base - 1) / 5.31)))
        data = unique * (1 + 15.39 * (1 - np.exp(-(epochs - 1) / 15.39)))
        wanted = 1.869 + 520.8 / left**0.3527 + 1487.6 / data**0.3527
        inputs = {"params": size, "tokens": unique, "epochs": epochs}
        found = LAWS["loss"]["excess_parameters"].predict(known, inputs)
        assert found == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(("tokens", "loss"), [(1e-12, 5.0), (4.0, 3.0), (100.0, 1.6667)])
def test_rectified_law(tokens: float, loss: float) -> None:
    coefficients = {"B": 8.0, "D_l": 2.0, "beta": 0.5, "E": 1.0}
    value = LAWS["loss"]["rectified"].predict(coefficients, {"tokens": tokens})[0]
    assert value == pytest.approx(loss, abs=5e-5)


def test_ratio_and_broken_laws_are_their_formulas() -> None:
    n, d, t = 3e6, 2e6, 5e7
    ratio = LAWS["loss"]["ratio"].predict(
        {"L0": 1.2, "A": 40.0, "alpha": 0.3, "D0": 4e6, "beta": 0.5, "gamma": -0.1},
        {"params": n, "tokens": d, "teacher_params": t},
    )[0]
    assert ratio == pytest.approx(1.2 + 40 * n**-0.3 * (1 + (4e6 / d) ** 0.5) * (t / n) ** -0.1)
    broken = LAWS["loss"]["broken_chinchilla"].predict(
        {"E": 1.2, "A": 40.0, "alpha": 0.3, "N_c": 1e7, "delta": 0.4, "B": 90.0, "beta": 0.4},
        {"params": n, "tokens": d},
    )[0]
    steeper = (1 + (1e7 / n) ** 5) ** (0.4 * 0.2)
    assert broken == pytest.approx(1.2 + 40 * n**-0.3 * steeper + 90 * d**-0.4)


def test_distillation_law_gives_the_papers_loss() -> None:
    teacher = LAWS["loss"]["supervised"].predict(
        law_simulations.SUPERVISED, {"params": 1.82e9, "tokens": 20 * 1.82e9}
    )[0]
    student = LAWS["loss"]["distillation"].predict(
        law_simulations.PAPER, {"params": 546e6, "tokens": 20 * 546e6, "teacher_loss": teacher}
    )[0]
    assert student == pytest.approx(2.424, abs=5e-4)


def test_reduced_form_is_within_0_0021_nats() -> None:
    c1, f1, d1 = (law_simulations.PAPER[name] for name in ("c1", "f1", "d1"))
    reduced = {k: v for k, v in law_simulations.PAPER.items() if k not in ("c1", "d1")}
    reduced["kappa"] = c1 * f1 * d1 ** (-1 / f1)
    size, tokens, teacher = (
        axis.ravel()
        for axis in np.meshgrid(
            np.geomspace(143e6, 7.75e9, 12), np.geomspace(4e9, 512e9, 12), np.linspace(1.9, 2.6, 8)
        )
    )
    inputs = {"params": size, "tokens": tokens, "teacher_loss": teacher}
    full = LAWS["loss"]["distillation"].predict(law_simulations.PAPER, inputs)
    short = LAWS["loss"]["distillation_reduced"].predict(reduced, inputs)
    assert np.abs(full - short).max() <= 0.0021
    assert np.abs(full - short).max() > 1e-4, "the forms differ"


def test_coefficients_survive_centring() -> None:
    law, inputs = LAWS["loss"]["chinchilla_constrained"], some_inputs()
    given = {"E": 1.7, "A": 400.0, "alpha": 0.34, "B": 410.0, "beta": 0.28, "R*": 15.0}
    centre = centre_of({name: inputs[name] for name in law.inputs})
    theta = law.internal(given, centre)
    values, jacobian = law.natural(theta, centre)
    logs = {p.name: p.kind == "amplitude" for p in law.parameters}
    for name, value in zip(law.names, values, strict=True):
        assert (np.exp(value) if logs[name] else value) == pytest.approx(given[name])
    step = 1e-6
    for place in range(len(theta)):
        move = np.zeros(len(theta))
        move[place] = step
        slope = (law.natural(theta + move, centre)[0] - law.natural(theta - move, centre)[0]) / 2e-6
        np.testing.assert_allclose(jacobian[:, place], slope, rtol=1e-6, atol=1e-7)


def test_huber_is_its_definition() -> None:
    r = np.array([0.0005, -0.0005, 0.002, -0.5])
    parts = [0.0005**2 / 2] * 2 + [0.001 * (0.002 - 0.0005), 0.001 * (0.5 - 0.0005)]
    assert huber(r, 1e-3) == pytest.approx(sum(parts))


@pytest.mark.slow
def test_fit_reaches_the_minimum_and_is_deterministic() -> None:
    inputs, target = chinchilla_points(1)
    law = LAWS["loss"]["chinchilla"]
    fit, again = fit_law(law, inputs, target), fit_law(law, inputs, target)
    np.testing.assert_array_equal(fit.theta, again.theta)
    assert fit.starts == 108
    rng = np.random.default_rng(0)
    for _ in range(5):
        other = fit_law(law, inputs, target, initial=fit.theta + 0.3 * rng.normal(size=5))
        assert fit.objective <= other.objective * (1 + 1e-6)


def test_starts_are_chosen_by_seed() -> None:
    law, y = LAWS["loss"]["distillation"], np.linspace(2, 3, 20)
    assert len(starting_points(law, y, 162, 0)) == 162
    same = starting_points(law, y, 162, 0) == starting_points(law, y, 162, 0)
    assert same.all()
    assert (starting_points(law, y, 162, 0) != starting_points(law, y, 162, 1)).any()


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_values_that_have_no_log_are_refused(bad: float) -> None:
    tokens, loss = np.array([1.0, 2.0, 3.0, 4.0]), np.array([4.0, 3.0, 2.5, 2.4])
    law = LAWS["loss"]["data_power"]
    with pytest.raises(ValueError, match="positive"):
        fit_law(law, {"tokens": np.where(tokens == 2, bad, tokens)}, loss)
    with pytest.raises(ValueError, match="positive"):
        fit_law(law, {"tokens": tokens}, np.where(tokens == 2, bad, loss))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["data_power", "size_power", "chinchilla"])
def test_refits_together_end_where_refits_alone_do(name: str) -> None:
    law, rng = LAWS["loss"][name], np.random.default_rng(3)
    sizes, tokens = np.meshgrid(law_simulations.SIZES, law_simulations.TOKENS)
    grid = {"params": sizes.ravel(), "tokens": tokens.ravel()}
    inputs = {key: grid[key] for key in law.inputs}
    truth = np.log(law.predict(law_simulations.TRUTH, inputs))
    fit = fit_law(law, inputs, np.exp(truth + 0.01 * rng.normal(size=len(truth))))
    logs = truth + 0.01 * rng.normal(size=(5, len(truth)))
    theta, x = np.tile(fit.theta, (5, 1)), law.centred(inputs, fit.centre)
    for width, steps in ((10 * HUBER_DELTA, 10), (HUBER_DELTA, 200)):
        theta, cost = descend(law, x, logs, theta, fit.bounds, width, steps)
    for row, y in enumerate(logs):
        alone = fit_law(law, inputs, np.exp(y), initial=fit.theta, centre=fit.centre)
        assert cost[row] <= alone.objective * (1 + 1e-4)
        assert cost[row] == huber(law.curve(theta[row], x)[0] - y, HUBER_DELTA)


def test_least_squares_of_many_is_scipys() -> None:
    law, inputs = LAWS["loss"]["chinchilla"], some_inputs(40)
    x = law.centred(inputs, centre_of({key: inputs[key] for key in law.inputs}))
    start = starting_points(law, np.full(40, 2.0), 10**6, 0)[100]
    logs = law.curve(start, x)[0] + 0.02 * np.random.default_rng(5).normal(size=(4, 40))
    bounds = np.tile([-8.0, 8.0], (len(start), 1))
    theta, _ = descend(law, x, logs, np.tile(start, (4, 1)), bounds, np.inf, 60)
    for row, y in enumerate(logs):
        alone = least_squares(
            lambda p, y=y: law.curve(p, x)[0] - y, start, lambda p: law.curve(p, x)[1].T
        )
        ours = 0.5 * ((law.curve(theta[row], x)[0] - y) ** 2).sum()
        assert ours <= alone.cost * (1 + 1e-6)
