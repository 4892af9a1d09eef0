"""`action=recommend`: a race over published rates and ranks, widened where the best rate lies at an end."""

from typing import Final

from rich.console import Console

from sweeplab.config.compose import Request, compose_conf, to_study_config
from sweeplab.config.priors import list_further_rates, list_prior_rates
from sweeplab.config.space import axes
from sweeplab.config.study import study_folder
from sweeplab.execution.driver import Driver
from sweeplab.records.store import read_facts, read_records
from sweeplab.report.evidence.race import judge_study
from sweeplab.report.evidence.settings import group_by_setting
from sweeplab.runtime.errors import refuse

_RATE: Final = "optimizer.lr"
_MOST_WIDENED: Final = 3  # times that the best rate may lie at an end


def recommend_setting(request: Request, console: Console) -> bool:
    """Finds which rate and rank suit the model and data within the study's budget; true where any trial has finished.

    Rates that the command itself gives, `space.optimizer.lr` or `optimizer.lr`, are taken as they are. Raises
    `ConfigError`, `StoreError` and `KeyboardInterrupt`.
    """
    if request.config.sampler.name != "race":
        rule = "must be race for action=recommend, which sends seeds where the contest is"
        raise refuse("sampler", rule, request.config.sampler.name, "leave it out, or use action=run")
    is_given = any(one.lstrip("+").startswith(f"{_RATE}=") for one in request.overrides)
    if is_given or _RATE in {axis.key for axis in axes(request.config.space)}:
        return Driver(request, console).run() > 0
    rates = _read_earlier_rates(request) or list_prior_rates(request.config.model)
    for _ in range(_MOST_WIDENED):
        finished = Driver(_with_rates(request, rates), console).run()
        further = _widen(request, rates)
        if not further or not finished:
            return finished > 0
        rates = [*rates, *further]
        listed = " and ".join(f"{rate:g}" for rate in further)
        console.print(f"The best rate lies at an end of what was tried: {listed} too.", markup=False)
    return Driver(_with_rates(request, rates), console).run() > 0


def _with_rates(request: Request, rates: list[float]) -> Request:
    """The request with these rates to choose from."""
    listed = ",".join(f"{rate:g}" for rate in rates)
    overrides = [*request.overrides, f"++space.{_RATE}.choices=[{listed}]"]
    config = to_study_config(compose_conf(overrides), str(request.config.study.name), overrides)
    return Request(config, overrides, request.command)


def _read_earlier_rates(request: Request) -> list[float]:
    """The rates of a study that was begun before; empty for a new one. Raises `StoreError`."""
    facts = read_facts(study_folder(request.config))
    return [] if facts is None else list(facts.space.get(_RATE, {}).get("choices", []))


def _widen(request: Request, rates: list[float]) -> list[float]:
    """Further rates where a race that is over names one at an end of those tried; else none. Raises `StoreError`."""
    folder = study_folder(request.config)
    facts = read_facts(folder)
    if facts is None or facts.race is None:
        return []
    settings = group_by_setting(facts, read_records(folder))
    judged = judge_study(facts, settings)
    if judged is None or len(judged[1].find_open(facts.race.within)):
        return []
    return list_further_rates(rates, settings[judged[1].leader].params[_RATE])
