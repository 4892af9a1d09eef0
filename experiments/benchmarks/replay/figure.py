"""The README's figure: mean regret by method, over all tables."""

import statistics
from typing import Final, NamedTuple

from sweeplab.report.charts.bars import Bar, BarChart, BarGroup, draw_bars

_SHOWN: Final = {  # by the method's name in the report's tables
    "random, a third of the settings": "random search",
    "successive halving on curves, 1 seed": "successive halving on curves",
    "every setting, 1 seed": "every setting, one seed",
    "every setting, 2 seeds": "every setting, two seeds",
    "TPE 30, then 3 seeds of the best 5": "TPE, then three seeds of the best five",
    "TPE 30, then the race of the best 5, at most 45": "sampler=finals",
    "recommend, at most 45 runs": "action=recommend",
}


class Outcome(NamedTuple):
    """Of a method on a table."""

    regret: float  # mean, as a share of the best loss
    num_runs: float


def draw_regret(outcomes: list[dict[str, Outcome]]) -> str:
    """Bars of the mean over tables; `outcomes` has a dictionary by method for each table."""
    groups = []
    for name, shown in _SHOWN.items():
        regret = 100 * statistics.fmean(one[name].regret for one in outcomes)
        runs = statistics.fmean(one[name].num_runs for one in outcomes)
        color = 1 if "=" in shown else 0
        groups.append(BarGroup(shown, [Bar(regret, color, f"{regret:.1f} %, {runs:.0f}")]))
    title = f"What the chosen setting loses to the best of 63, mean over {len(outcomes)} tasks"
    return draw_bars(BarChart(title, "percent above the best one's loss, less is better; runs", groups))
