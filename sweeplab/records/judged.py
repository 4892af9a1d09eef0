"""What is said of a judge: whether a place was preferred, and how many of its verdicts could not be read."""

from collections.abc import Sequence

import numpy as np

from sweeplab.statistics.places import estimate_first_share


def describe_judge(first_rates: Sequence[float], unreadable: Sequence[float], num_trials: int = 1) -> list[str]:
    """Sentences about the judge of the same items in so many trials; `first_rates` and `unreadable`: means by item."""
    values_N = np.array(first_rates)
    share = estimate_first_share(values_N)
    said = f"it took the response shown first in {share.value:.3f} of {len(values_N)} items"
    num_verdicts, num_lost = 2 * len(values_N) * num_trials, round(2 * num_trials * sum(unreadable))
    lost = f"{num_lost} of at most {num_verdicts} verdicts could not be read, and their items are ties"
    if share.low is None or share.high is None:
        place = f"no verdict of the judge depended on the order of the responses, in {len(values_N)} items"
    elif share.low <= 0.5 <= share.high:
        place = f"the judge shows no preference for a place: {said} [{share.low:.3f}, {share.high:.3f}]"
    else:
        which = "first" if share.value > 0.5 else "second"
        place = (
            f"warning: the judge prefers the response that is shown {which}: {said} [{share.low:.3f}, "
            f"{share.high:.3f}], where .5 would be fair; both orders were asked, so these items are ties and draw win "
            "rates towards .5"
        )
    return [place, lost] if num_lost else [place]
