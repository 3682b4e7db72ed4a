"""The distillation law in its two stages: supervised runs first, distilled ones on top.

Busbridge et al. 2025, Distillation scaling laws: L~_S, the loss of the same student trained without
a teacher, enters the law of distilled students. The error of the first stage enters the second.
"""

from dataclasses import dataclass, replace

import numpy as np

from distill.laws.choice import Fitted, Settings, fit_points
from distill.laws.extrapolation import effort_of, noise_of, ranges_of
from distill.laws.fitting import fit_law
from distill.laws.intervals import uncertainty
from distill.laws.law import Law
from distill.laws.points import Points


@dataclass(frozen=True)
class StagedFitter:
    """Fits the distillation law given a fit of the supervised one; called like `fit_points`.

    Attributes:
        first: The supervised law fitted to the supervised runs.
    """

    first: Fitted

    def __call__(
        self, law: Law, points: Points, settings: Settings, initial: np.ndarray | None = None
    ) -> Fitted:
        """Fit the second stage; the uncertainty is of both.

        An error d of the first stage's parameters moves the second stage's by -H2 J21 d, where H2
        is the pseudo-inverse of its own Jacobian and J21 its Jacobian by the first's parameters.
        """
        if law.first_stage is None:
            return fit_points(law, points, settings, initial)
        first, count = self.first, len(self.first.law.parameters)
        fit = fit_law(
            law,
            {name: points.values[name] for name in law.inputs},
            points.target,
            starts=settings.starts,
            seed=settings.seed,
            delta=settings.huber_delta,
            initial=initial,
            centre=first.fit.centre,
            fixed=first.fit.theta,
        )
        # The first stage was free within its own bounds, not held.
        fit = replace(fit, bounds=np.concatenate([first.fit.bounds, fit.bounds[count:]]))
        first_jacobian, second_jacobian = fit.jacobian[:, :count], fit.jacobian[:, count:]
        second = uncertainty(
            replace(fit, jacobian=second_jacobian), None, None, settings.huber_delta
        )
        scale = np.linalg.norm(second_jacobian, axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        follow = (
            -np.linalg.lstsq(second_jacobian / scale, first_jacobian, rcond=1e-7)[0]
            / scale[:, None]
        )
        variance = second.variances.sum()
        # Per unit of the second stage's variance, as `Uncertainty` holds it.
        before = first.uncertainty.by_run * (first.uncertainty.variances[0] / variance)
        both = np.block(
            [
                [before, before @ follow.T],
                [follow @ before, follow @ before @ follow.T + second.by_run],
            ]
        )
        joint = replace(second, by_run=both, by_draw=both, shift=np.zeros(len(both)))
        noise = noise_of(fit, effort_of(points.values, ranges_of(points, law)))
        return Fitted(law, fit, joint, noise, first.seconds + fit.seconds)
