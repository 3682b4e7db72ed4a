"""One score of a run as a function of another: pass rate of loss or data, and loss of loss.

Two forms, fitted by maximum likelihood (`distill.laws.relation_fitting`):

- `sigmoid`: score = chance + (top - chance)/(1 + exp(-k (x - x0))), as of Grattafiori et al. 2024,
  The Llama 3 herd of models, 3.2.1, who predict accuracy from loss. Binomial where the number of
  items is known, else least squares.
- `loss_to_loss`: L_y = K (L_x - E_x)^kappa + E_y, Brandfonbrener et al. 2024, Loss-to-loss
  prediction; least squares in log L_y.

Runs hardly determine what lies beyond them: the top of a sigmoid whose end was not reached, the
floor E_x of a loss. A relation averages over it, each value weighted by the likelihood; one
estimate would give intervals far too narrow there.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t as student_t

from distill.laws.law import Array
from distill.stats.intervals import LEVEL

SIGMOID, LOSS_TO_LOSS = "sigmoid", "loss_to_loss"
FORMULAS = {
    SIGMOID: "score = chance + (top - chance)/(1 + exp(-k (x - x0)))",
    LOSS_TO_LOSS: "L_y = K (L_x - E_x)^kappa + E_y",
}
SOURCES = {
    SIGMOID: "Grattafiori et al. 2024, The Llama 3 herd of models, section 3.2.1",
    LOSS_TO_LOSS: "Brandfonbrener et al. 2024, Loss-to-loss prediction",
}
TINY, _NEAR_BOUND = 1e-6, 1e-4


@dataclass(frozen=True)
class Form:
    """A form in internal parameters; the last one is averaged over, unless it is known.

    Attributes:
        name: `SIGMOID` or `LOSS_TO_LOSS`.
        frame: Constants: of a sigmoid `centre` and `width` of x, `direction` (1 rises, -1 falls)
            and `chance` (null: fitted); of a loss to loss `centre` of x, `least_x`, `least_y` and
            `floor_x` (null: averaged over).
    """

    name: str
    frame: Mapping[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """Coefficients, in the order of internal parameters."""
        if self.name == SIGMOID:
            return ("x0", "k", *(() if self.frame["chance"] is not None else ("chance",)), "top")
        return ("K", "kappa", "E_y", *(() if self.frame["floor_x"] is not None else ("E_x",)))

    @property
    def averaged(self) -> bool:
        """Whether the last coefficient is averaged over."""
        return self.names[-1] in ("top", "E_x")

    @property
    def box(self) -> Array:
        """Bounds of internal parameters, shape (P, 2)."""
        bounds = {
            "x0": (-8.0, 8.0), "k": (np.log(0.05), np.log(50.0)), "chance": (0.0, 0.98),
            "top": (0.02, 1.0), "K": (-np.log(1e6), np.log(1e6)),
            "kappa": (np.log(0.05), np.log(20.0)), "E_y": (0.0, 0.999), "E_x": (0.0, 0.97),
        }  # fmt: skip
        return np.array([bounds[name] for name in self.names])

    def starts(self, last: Array) -> Array:
        """Starting points for each value of the last parameter, shape (values, S, P)."""
        axes: dict[str, tuple[float, ...]] = {
            "x0": (-1.5, 0.0, 1.5), "k": (-0.7, 0.7), "chance": (0.02, 0.2, 0.5),
            "kappa": (-0.5, 0.3), "E_y": (0.1, 0.6),
        }  # fmt: skip
        if self.name == LOSS_TO_LOSS:
            axes["K"] = (float(np.log(self.frame["least_y"])) - 1.0,)
        names = self.names[:-1] if self.averaged else self.names
        points = np.array(list(itertools.product(*(axes[name] for name in names))))
        if not self.averaged:
            return points[None]
        return np.stack([np.column_stack([points, np.full(len(points), one)]) for one in last])

    def curve(self, theta: Array, x: Array) -> tuple[Array, Array]:
        """The prediction on the scale of the fit (a share, or a log loss), and its gradient.

        Args:
            theta: Internal parameters, shape (S, P).
            x: n values: losses, or logs of tokens.

        Returns:
            Shapes (S, n) and (S, P, n).
        """
        p = {name: theta[:, place, None] for place, name in enumerate(self.names)}
        if self.name == SIGMOID:
            chance = p.get("chance", self.frame["chance"])
            u = (x - self.frame["centre"]) / self.frame["width"]
            steep = self.frame["direction"] * np.exp(p["k"])
            share, rise = expit(steep * (u - p["x0"])), (1 - chance) * p["top"]
            slope = rise * share * (1 - share) * steep
            parts = {
                "x0": -slope, "k": slope * (u - p["x0"]), "chance": 1 - p["top"] * share,
                "top": (1 - chance) * share,
            }  # fmt: skip
            value = chance + rise * share
        else:
            known, least = self.frame["floor_x"], self.frame["least_x"]
            floor = least * p["E_x"] if known is None else known
            above, centre = np.maximum(x - floor, TINY), self.frame["centre"] - floor
            power, logs = np.exp(p["kappa"]), np.log(above / centre)
            reducible = np.exp(p["K"] + power * logs)
            total = reducible + self.frame["least_y"] * p["E_y"]
            share = reducible / total
            parts = {
                "K": share, "kappa": share * power * logs, "E_y": self.frame["least_y"] / total,
                "E_x": share * power * least * (1 / centre - 1 / above),
            }  # fmt: skip
            value = np.log(total)
        rows = [np.broadcast_to(parts[name], value.shape) for name in self.names]
        return value, np.stack(rows, axis=1)

    def natural(self, theta: Array) -> Array:
        """Coefficients of the formula (of K its log), shape (S, P)."""
        p = {name: theta[:, place] for place, name in enumerate(self.names)}
        if self.name == SIGMOID:
            chance = p.get("chance", self.frame["chance"])
            p["x0"] = self.frame["centre"] + self.frame["width"] * p["x0"]
            p["k"] = self.frame["direction"] * np.exp(p["k"]) / self.frame["width"]
            p["top"] = chance + (1 - chance) * p["top"]
        else:
            known = self.frame["floor_x"]
            floor = self.frame["least_x"] * p["E_x"] if known is None else known
            p["kappa"] = np.exp(p["kappa"])
            p["K"] = p["K"] - p["kappa"] * np.log(self.frame["centre"] - floor)
            p["E_y"] = self.frame["least_y"] * p["E_y"]
            if known is None:
                p["E_x"] = floor
        return np.stack([p[name] for name in self.names], axis=1)


@dataclass(frozen=True)
class Relation:
    """A fitted form, averaged over values of its last coefficient; the likeliest one first.

    Attributes:
        form: Its form.
        weights: Of the G values, shape (G,); they add up to 1.
        theta: Internal parameters, shape (G, P).
        covariance: Of theta, at the scale of the noise, shape (G, P, P); 0 for a parameter at its
            bound and for one that is averaged over.
        scale: Of a binomial fit, the variance over the binomial one, at least 1; else the variance
            of a run on the scale of the fit.
        df: Degrees of freedom of the scale.
        binomial: Whether scores count items.
        range: Lowest and highest x.
        error: Root mean square of the residuals, on the scale of the fit.
        rate: Standard deviation of the error per unit of x beyond the range, logits or logs.
    """

    form: Form
    weights: Array
    theta: Array
    covariance: Array
    scale: float
    df: int
    binomial: bool
    range: tuple[float, float]
    error: float
    rate: float = 0.0

    @property
    def _quantile(self) -> float:
        return float(student_t.ppf(0.5 + LEVEL / 2, self.df))

    def predict(self, x: Any, items: Any = None, x_half: Any = 0.0) -> dict[str, Array]:
        """Predict at x, with 90 % intervals.

        Args:
            x: Losses, or logs of tokens, shape (m,).
            items: Items of a new run's score, for a binomial relation; 1 by default.
            x_half: Half width of x's own 90 % interval, which widens both.

        Returns:
            value; low and high of the mean; run_low and run_high of a new run; slope, the change of
            the value per unit of x. Shape (m,) each. Shares stay between 0 and 1.
        """
        at = np.atleast_1d(np.asarray(x, dtype=np.float64))
        share = self.form.name == SIGMOID
        back = expit if share else np.exp
        middle, variance, run = self._spread(at, items)
        step = 1e-4 * (self.range[1] - self.range[0])
        ends = [self.weights @ self._linked(at + way)[0] for way in (step, -step)]
        slope, value = (ends[0] - ends[1]) / (2 * step), back(middle)
        moved = slope * np.asarray(x_half)
        halves = [np.sqrt(self._quantile**2 * v + moved**2) for v in (variance, variance + run)]
        with np.errstate(over="ignore"):
            low, high, run_low, run_high = (
                back(middle + sign * half) for half in halves for sign in (-1, 1)
            )
        return {
            "value": value, "low": low, "high": high, "run_low": run_low, "run_high": run_high,
            "slope": slope * (value * (1 - value) if share else value),
        }  # fmt: skip

    def beyond(self, x: Array, y: Array, items: Array | None) -> float:
        """The error per unit of x beyond the runs, logits or logs, that runs there show.

        What their errors have beyond the noise and the fit's own uncertainty; 0 without such runs.

        Args:
            x: Of runs that were not fitted, shape (m,).
            y: Their scores, shape (m,).
            items: Of each share, shape (m,); None for none.
        """
        away = self._away(x)
        if not away.any():
            return 0.0
        middle, variance, run = self._spread(x, items)
        if self.form.name == SIGMOID:
            least = 0.5 / items if items is not None else np.full(len(y), 0.01)
            errors = logit(np.clip(y, least, 1 - least)) - middle
        else:
            errors = np.log(y) - middle
        excess = np.maximum(errors**2 - variance - run, 0.0)[away > 0]
        return float(np.sqrt(excess.mean() / (away[away > 0] ** 2).mean()))

    def _away(self, at: Array) -> Array:
        """Distance of x from the range of the runs, 0 inside."""
        low, high = self.range
        return np.asarray(np.maximum(np.maximum(low - at, at - high), 0.0))

    def _spread(self, at: Array, items: Any) -> tuple[Array, Array, Array]:
        """Logit of a share or log of a loss, its variance, and that of a run about it; (m,)."""
        values, own = self._linked(at)
        middle = self.weights @ values
        variance = self.weights @ (own + (values - middle) ** 2)
        variance = variance + (self.rate * self._away(at)) ** 2
        if self.form.name == LOSS_TO_LOSS:
            return middle, variance, np.full(len(at), self.scale)
        share = expit(middle)
        by_link = np.maximum(share * (1 - share), TINY)
        if self.binomial:
            counts = np.asarray(1.0 if items is None else items)
            return middle, variance, self.scale / (by_link * counts)
        return middle, variance, self.scale / by_link**2

    def _linked(self, at: Array) -> tuple[Array, Array]:
        """Logit of a share or log of a loss, and its variance, for each value; shape (G, m)."""
        value, gradient = self.form.curve(self.theta, at)
        variance = np.einsum("gpm,gpq,gqm->gm", gradient, self.covariance, gradient)
        if self.form.name == LOSS_TO_LOSS:
            return value, variance
        inside = np.clip(value, TINY, 1 - TINY)
        return logit(inside), variance / (inside * (1 - inside)) ** 2

    def coefficients(self) -> dict[str, dict[str, Any]]:
        """Coefficients with 90 % intervals: value (the likeliest), low, high, identifiable.

        One at its bound, or known to no better than its own size (K: a factor of 100; x0: twice the
        range of x), is not identifiable. One that was given has no interval.
        """
        values = self.form.natural(self.theta)
        steps = 1e-5 * np.eye(values.shape[1])
        slopes = [
            (self.form.natural(self.theta + one) - self.form.natural(self.theta - one)) / 2e-5
            for one in steps
        ]
        jacobian = np.stack(slopes, axis=2)
        own = np.einsum("gip,gpq,giq->gi", jacobian, self.covariance, jacobian)
        mean = self.weights @ values
        half = self._quantile * np.sqrt(self.weights @ (own + (values - mean) ** 2))
        bound = at_bound(self.theta[:1], self.form.box)[0]
        widest = {"K": np.log(100.0), "x0": 2 * (self.range[1] - self.range[0])}
        records: dict[str, dict[str, Any]] = {}
        for place, name in enumerate(self.form.names):
            value = float(values[0, place])
            ends = {"value": value, "low": float(mean[place] - half[place]),
                    "high": float(mean[place] + half[place])}  # fmt: skip
            if name == "K":
                ends = {key: float(np.exp(np.clip(end, -700, 700))) for key, end in ends.items()}
            if self.form.averaged and place == len(self.form.names) - 1:
                ends |= self._ends(values[:, place])
            known = half[place] < widest.get(name, abs(value)) and not bound[place]
            records[name] = {**ends, "identifiable": bool(known)}
        for name, key in (("chance", "chance"), ("E_x", "floor_x")):
            if self.form.frame.get(key) is not None:
                fixed = float(self.form.frame[key])
                records[name] = {"value": fixed, "low": None, "high": None, "identifiable": True}
        return records

    def _ends(self, values: Array) -> dict[str, float]:
        """Weighted quantiles of the coefficient that is averaged over."""
        order = np.argsort(values)
        total = np.cumsum(self.weights[order])
        places = np.searchsorted(total, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        low, high = values[order][np.minimum(places, len(values) - 1)]
        return {"low": float(low), "high": float(high)}

    def state(self) -> dict[str, Any]:
        """Plain numbers from which `of_state` predicts."""
        arrays = {"weights": self.weights, "theta": self.theta, "covariance": self.covariance}
        return {
            "form": self.form.name,
            "frame": dict(self.form.frame),
            **{name: array.tolist() for name, array in arrays.items()},
            "scale": self.scale,
            "df": self.df,
            "binomial": self.binomial,
            "range": list(self.range),
            "error": self.error,
            "rate": self.rate,
        }

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> "Relation":
        """The inverse of `state`."""
        weights, theta, covariance = (
            np.array(state[name], dtype=np.float64) for name in ("weights", "theta", "covariance")
        )
        low, high = state["range"]
        form = Form(state["form"], state["frame"])
        numbers = state["scale"], state["df"], state["binomial"]
        last = (low, high), state["error"], state["rate"]
        return cls(form, weights, theta, covariance, *numbers, *last)


def sigmoid_form(x: Array, direction: int, chance: float | None) -> Form:
    """A sigmoid of these x; `direction` is -1 where the score falls with x."""
    frame = {
        "centre": float(x.mean()), "width": float(x.std()) or 1.0, "direction": direction,
        "chance": chance,
    }  # fmt: skip
    return Form(SIGMOID, frame)


def loss_form(x: Array, y: Array, floor: float | None) -> Form:
    """A loss y of a loss x, whose floor may be known."""
    frame = {
        "centre": float(np.exp(np.log(x).mean())), "least_x": float(x.min()),
        "least_y": float(y.min()), "floor_x": floor,
    }  # fmt: skip
    return Form(LOSS_TO_LOSS, frame)


def at_bound(theta: Array, box: Array) -> np.ndarray:
    """Whether each parameter is at a bound, shape (S, P)."""
    return np.asarray((np.abs(theta[:, :, None] - box) < _NEAR_BOUND).any(axis=2))
