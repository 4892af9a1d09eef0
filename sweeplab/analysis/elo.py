"""Ratings from pairwise outcomes: Elo, averaged over many orders of the matches, and Bradley-Terry."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sweeplab.analysis.adapters import Array

_START: Final = 1000.0  # Dettmers et al. 2023, arXiv 2305.14314, section 5.2
_K: Final = 32.0
_SCALE: Final = 400.0 / math.log(10)  # points of a difference of 1 in log-odds
_CLOSE: Final = 1e-9  # of log-odds, where Newton ends

Places = NDArray[np.intp]


class Matches(NamedTuple):
    """N outcomes between players, given by index; `scores`: 1 where the first won, 0 the second, 0.5 for a tie."""

    first_N: Places
    second_N: Places
    scores_N: Array


class Rating(NamedTuple):
    """The Elo rating over random orders of the same matches: its interval shows the effect of their order only."""

    mean: float
    low: float  # 2.5 % of orders lie below
    high: float  # 2.5 % above


class Strength(NamedTuple):
    """Bradley-Terry in Elo's points, 1000 on average, with its standard error for independent matches."""

    points: float
    stderr: float


def _expect_score(difference: Array) -> Array:
    """1 / (1 + 10^(-difference / 400)): the expected score of a player that is `difference` points ahead. Elo 1978."""
    score: Array = 1.0 / (1.0 + 10.0 ** (-difference / 400.0))
    return score


def play_matches(matches: Matches, num_players: int, orders_MN: Places) -> Array:
    """Final ratings, shape (M, players), after the matches were played in each of M orders: R += K (S - E)."""
    rows_M = np.arange(len(orders_MN))
    ratings_MP = np.full((len(orders_MN), num_players), _START)
    for match_M in orders_MN.T:
        first_M, second_M = matches.first_N[match_M], matches.second_N[match_M]
        ahead_M = ratings_MP[rows_M, first_M] - ratings_MP[rows_M, second_M]
        change_M = _K * (matches.scores_N[match_M] - _expect_score(ahead_M))
        ratings_MP[rows_M, first_M] += change_M
        ratings_MP[rows_M, second_M] -= change_M
    return ratings_MP


def rate_by_elo(matches: Matches, num_players: int, num_orders: int, seed: int) -> list[Rating]:
    """K 32, start 1000, mean and central 95 % over random orders."""
    generator = np.random.default_rng(seed)
    orders_MN = generator.permuted(np.tile(np.arange(len(matches.scores_N)), (num_orders, 1)), axis=1)
    ratings_MP = play_matches(matches, num_players, orders_MN)
    low_P, high_P = np.quantile(ratings_MP, (0.025, 0.975), axis=0)
    return [Rating(float(m), float(lo), float(hi)) for m, lo, hi in zip(ratings_MP.mean(0), low_P, high_P, strict=True)]


def _count_points(matches: Matches, num_players: int) -> Array:
    """Points that each player has won against each other one, shape (players, players); half a point for a tie."""
    won_PP = np.zeros((num_players, num_players))
    np.add.at(won_PP, (matches.first_N, matches.second_N), matches.scores_N)
    np.add.at(won_PP, (matches.second_N, matches.first_N), 1.0 - matches.scores_N)
    return won_PP


def _is_connected(won_PP: Array) -> bool:
    """True where every player can be reached from every other one along won points (Ford 1957)."""
    reached_PP = (won_PP > 0) | np.eye(len(won_PP), dtype=bool)
    for middle in range(len(won_PP)):
        reached_PP |= np.outer(reached_PP[:, middle], reached_PP[middle])
    return bool(reached_PP.all())


def _log_likelihood(won_PP: Array, t_P: Array) -> float:
    ahead_PP = t_P[:, None] - t_P[None, :]
    return -float((won_PP * np.logaddexp(0.0, -ahead_PP)).sum())


def rate_by_bradley_terry(matches: Matches, num_players: int) -> list[Strength] | None:
    """Maximum likelihood with P(first beats second) = 1 / (1 + exp(t2 - t1)), a tie half a win each way.

    Newton with halved steps, which the concave likelihood makes sure of; the first player stands at 0 meanwhile.
    Standard errors from the Fisher information; matches that share an item are not independent, which it takes
    them to be. None where no finite maximum exists: a player that never lost a point, say.
    """
    won_PP = _count_points(matches, num_players)
    if not _is_connected(won_PP):
        return None
    t_P, step_P, covariance_PP = np.zeros(num_players), np.ones(num_players), np.zeros((num_players, num_players))
    while np.abs(step_P).max() > _CLOSE:
        share_PP = 1.0 / (1.0 + np.exp(t_P[None, :] - t_P[:, None]))
        weight_PP = (won_PP + won_PP.T) * share_PP * (1.0 - share_PP)
        information_PP = np.diag(weight_PP.sum(1)) - weight_PP
        covariance_PP[1:, 1:] = np.linalg.inv(information_PP[1:, 1:])
        step_P = covariance_PP @ (won_PP * share_PP.T - won_PP.T * share_PP).sum(1)
        before = _log_likelihood(won_PP, t_P)
        while np.abs(step_P).max() > _CLOSE and _log_likelihood(won_PP, t_P + step_P) <= before:
            step_P /= 2.0
        t_P += step_P
    centred_PP = np.eye(num_players) - 1.0 / num_players
    errors_P = _SCALE * np.sqrt(np.diag(centred_PP @ covariance_PP @ centred_PP))
    points_P = _START + _SCALE * (t_P - t_P.mean())
    return [Strength(float(p), float(e)) for p, e in zip(points_P, errors_P, strict=True)]


def build_matches(outcomes_TN: Array, players_T: Sequence[int], rounds_T: Sequence[int]) -> Matches:
    """Trials against trials, item by item: the higher outcome wins, equal ones tie, NaN (not asked) does not play.

    T trials on N items. Trials meet that belong to different players and to the same round: settings and seeds.
    """
    parts = []
    for one in range(len(outcomes_TN)):
        for other in range(one + 1, len(outcomes_TN)):
            if players_T[one] == players_T[other] or rounds_T[one] != rounds_T[other]:
                continue
            difference_N = outcomes_TN[one] - outcomes_TN[other]
            scores_N = (np.sign(difference_N[~np.isnan(difference_N)]) + 1.0) / 2.0
            indices = [np.full(len(scores_N), players_T[trial], dtype=np.intp) for trial in (one, other)]
            parts.append(Matches(indices[0], indices[1], scores_N))
    empty = np.zeros(0, dtype=np.intp)
    parts.append(Matches(empty, empty, np.zeros(0)))
    return Matches(*(np.concatenate([getattr(part, name) for part in parts]) for name in Matches._fields))
