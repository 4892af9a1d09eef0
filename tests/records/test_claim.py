"""A claim that cannot be answered is refused in one line with its remedy."""

from typing import Any

import pytest

from sweeplab.config.claim_rules import check_claims
from sweeplab.records.claim import ClaimConfig
from sweeplab.runtime.errors import ConfigError

SPACE = {"adapter": {"rank": {"choices": [4, 8]}}, "optimizer": {"choices": ["sgd"], "lr": {"low": 1e-4, "high": 1e-2}}}
GOOD: dict[str, Any] = {"words": "w", "source": "s", "metric": "scores.task.acc"}
PAIR: dict[str, Any] = {"better": {"adapter.rank": 8}, "worse": {"adapter.rank": 4}}


@pytest.mark.parametrize(
    "claim",
    [
        PAIR,
        {"same": [{"adapter.rank": 8}, {"adapter.rank": 4}], "margin": 0.1},
        {"falls_with": "optimizer.lr"},
        {
            "ratio": [{"adapter.rank": 8, "optimizer": "sgd"}, {"adapter.rank": 4, "optimizer": "sgd"}],
            "between": [1, 2],
        },
        {"value": {"optimizer.lr": 0.005}, "between": [None, 2]},
        {"every": {}, "between": [0.1, None]},
    ],
)
def test_claims_of_every_form_pass(claim: dict[str, Any]) -> None:
    check_claims([ClaimConfig(**GOOD, **claim)], SPACE)


@pytest.mark.parametrize(
    ("claim", "told"),
    [
        ({"words": "", **PAIR}, r"claims\[0\].words is missing; a claim has words"),
        (
            {"metric": "loss", **PAIR},
            r"claims\[0\].metric must name a metric of a record, got loss; choose from heldout",
        ),
        ({}, r"claims\[0\] must have exactly one of better, .*, got none; split it"),
        ({**PAIR, "every": {}}, r"must have exactly one of .*, got \[better, every\]"),
        ({"better": {"adapter.rank": 8}}, r"claims\[0\].better and claims\[0\].worse go together"),
        ({"same": [{"adapter.rank": 8}], "margin": 1.0}, r"claims\[0\].same must be a list of two settings"),
        ({"same": [{"adapter.rank": 8}, {"adapter.rank": 4}]}, r"claims\[0\].margin must be above 0 for `same`, got 0"),
        ({**PAIR, "margin": -1.0}, r"claims\[0\].margin must be a number from 0, got -1.0; give it in the metric"),
        ({**PAIR, "between": [0, 1]}, r"claims\[0\].between does not go with better"),
        (
            {"every": {}, "between": [2, 1]},
            r"claims\[0\].between must be two numbers, the lower first, .* got \[2, 1\]",
        ),
        ({"every": {}}, r"claims\[0\].between must be two numbers"),
        ({"every": {}, "between": [0, 1], "margin": 1.0}, r"claims\[0\].margin does not go with every"),
        ({"rises_with": "adapter.alpha"}, r"claims\[0\].rises_with must be a varied key, got adapter.alpha; the space"),
        ({"every": {"adapter.alpha": 1}, "between": [0, 1]}, r"must compare varied keys, got adapter.alpha"),
        ({"every": {"adapter.rank": 5}, "between": [0, 1]}, r"adapter.rank must be a value of the space, got 5"),
        ({"every": {"optimizer.lr": 1.0}, "between": [0, 1]}, r"optimizer.lr must be a value of the space, got 1.0"),
        ({"better": {"adapter.rank": 8}, "worse": {"adapter.rank": 8}}, r"must compare two settings"),
    ],
)
def test_what_is_no_claim_is_refused(claim: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check_claims([ClaimConfig(**{**GOOD, **claim})], SPACE)
