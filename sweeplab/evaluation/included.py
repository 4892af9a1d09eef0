"""Tasks of a user's own folder: read by lm-eval, without a way to run code unless the user has said that it may."""

from pathlib import Path
from typing import Any, Final

from sweeplab.config.included import read_task_file, refuse_functions
from sweeplab.runtime.errors import ConfigError

_REMEDY: Final = "add evaluation.include_code=true to the command line, or mend the task"


def forbid_code(manager: Any) -> Any:
    """Changes `manager` so that it builds no task whose files are not lm-eval's and would run code; returns it."""

    class GuardedFactory(type(manager._factory)):  # type: ignore[misc]
        """Reads a task's files before lm-eval does: it imports what `!function` names while it reads them."""

        def _load_full_config(self, entry: Any, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
            if entry.yaml_path is not None:
                refuse_functions(read_task_file(Path(entry.yaml_path)))
            config: dict[str, Any] = super()._load_full_config(entry, overrides)
            _refuse_loaded_code(entry.name, config)
            return config

    manager._factory = GuardedFactory(meta=manager.metadata)
    _enclose_templates()
    return manager


def _refuse_loaded_code(name: str, value: Any) -> None:
    """Raises `ConfigError` for a metric that is loaded as a script, and for pickled data, however deep in a group."""
    from lm_eval.api.registry import metric_registry

    if isinstance(value, list):
        for part in value:
            _refuse_loaded_code(name, part)
    if not isinstance(value, dict):
        return
    for one in value.get("metric_list") or ():
        metric = one.get("metric")
        is_script = isinstance(metric, str) and (metric not in metric_registry or one.get("hf_evaluate"))
        if is_script and value.get("process_results") is None:
            raise ConfigError(
                f"evaluation.include_path: the task {name} has the metric {metric}, which is not lm-eval's own, so a "
                f"script would be loaded and run; {_REMEDY}"
            )
    if value.get("dataset_path") == "pandas":
        raise ConfigError(
            f"evaluation.include_path: the task {name} has pickled data (dataset_path: pandas), which can run code; "
            "save them as JSON lines, with dataset_path: json"
        )
    _refuse_loaded_code(name, value.get("task"))


def _enclose_templates() -> None:
    """From now on lm-eval's templates of prompts and answers are rendered in Jinja's sandbox.

    Without it, a template can reach every class of Python, and run what it likes.
    """
    import lm_eval.utils
    from jinja2.sandbox import SandboxedEnvironment

    free = lm_eval.utils.env
    if not isinstance(free, SandboxedEnvironment):
        lm_eval.utils.env = SandboxedEnvironment(
            loader=free.loader, undefined=free.undefined, keep_trailing_newline=free.keep_trailing_newline
        )
        lm_eval.utils.env.filters.update(free.filters)
