"""The week and the year in counts by day: smoothed factors with their uncertainty.

===========  ========================================================================  =======
symbol       meaning                                                                   unit
===========  ========================================================================  =======
y_t, x_t     events of day t, and what they are relative to (1, or customers)          count
mu_t         x_t exp(b + u_weekday(t)) sum_m B_tm exp(v_m), the expected events        count
B_tm         place of the day between the middles of months, as `Season` has it        1
u, v         log factors of weekdays and months                                        1
s_u, s_v     their spread: u ~ N(0, s_u^2), v_(m+1) - v_m ~ N(0, s_v^2), a ring        1
phi          dispersion: variance of y_t over that of chance alone, at least 1         1
===========  ========================================================================  =======

Given the spreads, (b, u, v) is found by Fisher scoring and its posterior taken as Normal (Laplace); the
spreads lie on a grid, weighted by their evidence, so that a week that does not matter is smoothed away.
phi divides the likelihood: days differ by more than chance. A week needs a fortnight of days, a year two
months.
When it is wrong: a promotion on three Mondays is taken for Mondays; mark its days by `where`.
Source: McCullagh and Nelder 1989, 9.2 (quasi-likelihood); MacKay 2003, ch. 27 (Laplace).
"""

from dataclasses import dataclass
from datetime import date, timedelta
from itertools import product

import numpy as np
from numpy.typing import NDArray

from sim.fitting.log import Floats, Ints

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAYS_OF_WEEK = 14
DAYS_OF_YEAR = 60
SPREADS = (0.03, 0.1, 0.3, 1.0, 3.0)
SPREADS_YEAR = (0.03, 0.1, 0.3)


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """Base rate (of a day whose factors are 1), factors of weekdays (7) and months (12), and their draws.

    Weekday factors have the mean 1 over the week, months over the days seen. A month of fewer than a week of
    days (`seen` is false) has the factor of the nearest one that was seen.
    """

    base: float
    week: Floats
    year: Floats
    base_draws: Floats  # (draws,)
    week_draws: Floats  # (draws, 7)
    year_draws: Floats  # (draws, 12)
    dispersion: float
    has_week: bool
    has_year: bool
    seen: NDArray[np.bool_]  # (12,)

    def factors(self, weekday: Ints, place: Floats) -> Floats:
        """The factor of each day."""
        return self.week[weekday] * (place @ self.year)


def calendar(first: date, days: int) -> tuple[Ints, Floats]:
    """Weekday of each day, (days,), and its place among the months, (days, 12): rows sum to 1.

    >>> weekday, place = calendar(date(2026, 3, 16), 1)
    >>> int(weekday[0]), round(float(place[0, 2]), 3)
    (0, 1.0)
    """
    weekday = np.zeros(days, np.int64)
    place = np.zeros((days, 12))
    for number in range(days):
        today = first + timedelta(days=number)
        length = ((today.replace(day=28) + timedelta(days=4)).replace(day=1) - today.replace(day=1)).days
        at = today.month - 1.5 + (today.day - 0.5) / length
        before = int(np.floor(at))
        weekday[number] = today.weekday()
        place[number, before % 12] += 1 - (at - before)
        place[number, (before + 1) % 12] += at - before
    return weekday, place


def fit_profile(
    counts: Floats,
    exposure: Floats,
    weekday: Ints,
    place: Floats,
    rng: np.random.Generator,
    draws: int,
    *,
    chance: float = 0.0,
) -> Profile:
    """Factors of the days whose exposure is above 0; `chance` p makes the variance mu (1 - p), of trials.

    counts, exposure, weekday: (days,); place: (days, 12).
    """
    used = exposure > 0
    seen = np.bincount(place[used].argmax(axis=1), minlength=12) >= 7
    nearest = _nearest(seen)
    y, x, weekday = counts[used], exposure[used], weekday[used]
    place = place[used] @ np.eye(12)[nearest]
    has_week = len(y) >= DAYS_OF_WEEK and bool((np.bincount(weekday, minlength=7) >= 2).all())
    has_year = len(y) >= DAYS_OF_YEAR and int(seen.sum()) >= 2
    grid = list(product(SPREADS if has_week else (0.0,), SPREADS_YEAR if has_year else (0.0,)))
    widest = _Laplace(y, x, weekday, place, *grid[-1], dispersion=1.0)
    dispersion = max(1.0, widest.pearson() / (1 - chance))
    scale = dispersion * (1 - chance)
    fits = [_Laplace(y, x, weekday, place, *spread, dispersion=scale) for spread in grid]
    evidence = np.array([fit.evidence for fit in fits])
    weights = np.exp(evidence - evidence.max())
    weights /= weights.sum()
    chosen = rng.choice(len(fits), draws, p=weights)
    thetas = np.array([fits[number].draw(rng) for number in chosen])
    middle = weights @ np.array([fit.theta for fit in fits])
    base, week, year = _factors(middle[np.newaxis], place)
    bases, weeks, years = _factors(thetas, place)
    return Profile(
        base=float(base[0]),
        week=week[0],
        year=year[0][nearest],
        base_draws=bases,
        week_draws=weeks,
        year_draws=years[:, nearest],
        dispersion=dispersion,
        has_week=has_week,
        has_year=has_year,
        seen=seen,
    )


def _nearest(seen: NDArray[np.bool_]) -> Ints:
    """The seen month nearest to each month around the year; itself where none is, (12,)."""
    if not seen.any():
        return np.arange(12, dtype=np.int64)
    months = np.flatnonzero(seen).astype(np.int64)
    apart = np.abs(np.arange(12)[:, np.newaxis] - months)
    return months[np.minimum(apart, 12 - apart).argmin(axis=1)]


def _factors(theta: Floats, place: Floats) -> tuple[Floats, Floats, Floats]:
    """Base, week and year of rows of (b, u, v), brought to a mean of 1."""
    week, year = np.exp(theta[:, 1:8]), np.exp(theta[:, 8:])
    of_week = week.mean(axis=1)
    of_year = (year @ place.T).mean(axis=1)
    base = np.exp(theta[:, 0]) * of_week * of_year
    return base, week / of_week[:, np.newaxis], year / of_year[:, np.newaxis]


class _Laplace:
    """The posterior of (b, u, v) given the spreads; a spread of 0 leaves its factors at 1."""

    def __init__(
        self,
        y: Floats,
        x: Floats,
        weekday: Ints,
        place: Floats,
        week: float,
        year: float,
        *,
        dispersion: float,
    ) -> None:
        self.y, self.x, self.place = y, x, place
        self.one_hot = np.eye(7)[weekday]
        self.dispersion = dispersion
        self.free = np.concatenate([[True], np.full(7, week > 0), np.full(12, year > 0)])
        precision = np.zeros((20, 20))
        precision[0, 0] = 1e-4
        if week:
            precision[1:8, 1:8] = np.eye(7) / week**2
        if year:
            ring = 2 * np.eye(12) - np.roll(np.eye(12), 1, axis=1) - np.roll(np.eye(12), -1, axis=1)
            # the ring alone leaves the level of the year open: b tells it
            precision[8:, 8:] = ring / year**2 + np.eye(12) / (4 * year) ** 2
        self.precision = precision
        self.theta = np.zeros(20)
        self.theta[0] = np.log((y.sum() + 0.5) / x.sum())
        for _ in range(60):
            step = self._step()
            self.theta += step
            if np.abs(step).max() < 1e-9:
                break
        self.hessian = self._curvature()[0]
        self.evidence = self._evidence()

    def _mean(self, theta: Floats) -> tuple[Floats, Floats]:
        """mu, (days,), and d log mu / d theta, (days, 20)."""
        terms = self.place * np.exp(theta[8:])
        year = terms.sum(axis=1)
        mean = self.x * np.exp(theta[0] + self.one_hot @ theta[1:8]) * year
        slope = np.concatenate([np.ones((len(mean), 1)), self.one_hot, terms / year[:, np.newaxis]], axis=1)
        return mean, slope * self.free

    def _curvature(self) -> tuple[Floats, Floats]:
        mean, slope = self._mean(self.theta)
        free = np.ix_(self.free, self.free)
        hessian = ((slope.T * (mean / self.dispersion)) @ slope + self.precision)[free]
        gradient = slope.T @ ((self.y - mean) / self.dispersion) - self.precision @ self.theta
        return hessian, gradient[self.free]

    def _step(self) -> Floats:
        hessian, gradient = self._curvature()
        step = np.zeros(20)
        # a whole step may overshoot where counts are 0: none moves a log factor by more than 1
        step[self.free] = np.clip(np.linalg.solve(hessian, gradient), -1.0, 1.0)
        return step

    def _evidence(self) -> float:
        mean, _ = self._mean(self.theta)
        free = np.ix_(self.free, self.free)
        fit = float((self.y * np.log(mean) - mean).sum()) / self.dispersion
        prior = -0.5 * float(self.theta @ self.precision @ self.theta)
        logs = np.linalg.slogdet(self.precision[free])[1] - np.linalg.slogdet(self.hessian)[1]
        return fit + prior + 0.5 * float(logs)

    def pearson(self) -> float:
        """Mean square of the residuals in standard deviations of chance, per degree of freedom."""
        mean, _ = self._mean(self.theta)
        used = (
            1.0
            + 6.0 * bool(self.free[1])
            + min(11.0, (self.place.sum(axis=0) > 1).sum()) * bool(self.free[8])
        )
        return float(((self.y - mean) ** 2 / np.maximum(mean, 1e-9)).sum() / max(1.0, len(self.y) - used))

    def draw(self, rng: np.random.Generator) -> Floats:
        """One draw of (b, u, v)."""
        theta = self.theta.copy()
        root = np.linalg.cholesky(np.linalg.inv(self.hessian))
        theta[self.free] += root @ rng.standard_normal(int(self.free.sum()))
        return theta
