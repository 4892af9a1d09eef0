"""`action=recommend`: a race over published rates and ranks, which goes on beside its leader."""

from typing import Final

from rich.console import Console

from sweeplab.cli.export import export_study
from sweeplab.config.compose import Request, compose_conf, to_study_config
from sweeplab.config.priors import list_further_rates, list_prior_rates, list_rates_around
from sweeplab.config.search_rules import check_recommended_sampler
from sweeplab.config.space import axes
from sweeplab.config.study import study_folder
from sweeplab.execution.driver import Driver
from sweeplab.report import find_answer
from sweeplab.report.evidence.stored import read_stored_study
from sweeplab.runtime.errors import refuse
from sweeplab.search.warm_start import find_earlier_rate

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
    elif (earlier := request.config.study.warm_start) is not None:
        rule = f"gives action=recommend its first rates, and {_RATE} is given already"
        raise refuse("study.warm_start", rule, earlier, f"drop it, or {_RATE}")
    finished = Driver(request, console).run()
    if finished and request.config.export.path is not None:
        _export_decided(request, console)
    return finished > 0


def _export_decided(request: Request, console: Console) -> None:
    """Exports the setting that the race names; one that may still change is left to the user. Raises `ConfigError`."""
    folder = study_folder(request.config)
    if find_answer(read_stored_study(folder)).recommended is None:
        line = "Not exported: no setting is recommended yet. action=export trial=best takes the one that leads."
        console.print(line, markup=False, soft_wrap=True)
        return
    export_study(request._replace(config=request.config.model_copy(update={"trial": "best"})), console)


def _add_rates(request: Request) -> Request:
    """The request with rates to begin with, published ones or those around an earlier study's best, and with further
    ones where the best lies at an end of them. Raises `ConfigError`."""
    is_warm = request.config.study.warm_start is not None
    rates = list_rates_around(find_earlier_rate(request.config)) if is_warm else list_prior_rates(request.config.model)
    listed = ",".join(f"{rate:g}" for rate in [*rates, *list_further_rates(rates)])
    overrides = [*request.overrides, f"++space.{_RATE}={{choices: [{listed}], begin: {len(rates)}}}"]
    config = to_study_config(compose_conf(overrides), str(request.config.study.name), overrides)
    study = config.study.model_copy(update={"warm_start": None})  # a race learns nothing else from it
    return Request(config.model_copy(update={"study": study}), overrides, request.command)
