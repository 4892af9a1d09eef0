"""`action=recommend`: a race over published rates and ranks, which goes on beside its leader."""

from typing import Final

from rich.console import Console

from sweeplab.config.compose import Request, compose_conf, to_study_config
from sweeplab.config.priors import list_further_rates, list_prior_rates
from sweeplab.config.search_rules import check_recommended_sampler
from sweeplab.config.space import axes
from sweeplab.execution.driver import Driver

_RATE: Final = "optimizer.lr"


def recommend_setting(request: Request, console: Console) -> bool:
    """Finds which rate and rank suit the model and data within the study's budget; true where any trial has finished.

    Rates that the command itself gives, `space.optimizer.lr` or `optimizer.lr`, are taken as they are. Raises
    `ConfigError`, `StoreError` and `KeyboardInterrupt`.
    """
    check_recommended_sampler(request.config)
    is_given = any(one.lstrip("+").startswith(f"{_RATE}=") for one in request.overrides)
    if not is_given and _RATE not in {axis.key for axis in axes(request.config.space)}:
        request = _add_rates(request)
    return Driver(request, console).run() > 0


def _add_rates(request: Request) -> Request:
    """The request with published rates to begin with, and further ones where the best lies at an end of them."""
    rates = list_prior_rates(request.config.model)
    listed = ",".join(f"{rate:g}" for rate in [*rates, *list_further_rates(rates)])
    overrides = [*request.overrides, f"++space.{_RATE}={{choices: [{listed}], begin: {len(rates)}}}"]
    config = to_study_config(compose_conf(overrides), str(request.config.study.name), overrides)
    return Request(config, overrides, request.command)
