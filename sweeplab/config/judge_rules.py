"""What a judge of responses does not go with."""

from sweeplab.config.claim_rules import spaces_axes
from sweeplab.config.study import StudyConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.runtime.errors import refuse

_OF_THE_BASE = ("model", "quantization", "training.precision")  # whose responses differ with their values


def check_judged_trial(config: TrialConfig) -> None:
    """Refuses several devices, each of which would ask the judge. Raises `ConfigError`."""
    count = config.training.num_devices
    if config.evaluation.score == "judge" and count > 1:
        remedy = "use training.num_devices=1, or another evaluation.score"
        raise refuse("training.num_devices", "must be 1 with evaluation.score=judge", count, remedy)


def check_judged_study(config: StudyConfig) -> None:
    """Refuses trials that would be judged in unlike ways, and so could not be compared. Raises `ConfigError`."""
    asked = config.evaluation
    if asked.score != "judge":
        return
    for key in spaces_axes(config.space):
        name = f"space.{key}"
        if key.partition(".")[0] == "evaluation":
            rule = "must leave the evaluation alone with evaluation.score=judge, which all trials share"
            raise refuse(name, rule, key, "give a study of its own to each")
        if asked.judge_reference == "base" and any(key == one or key.startswith(f"{one}.") for one in _OF_THE_BASE):
            rule = "changes the base, whose responses all trials are compared with (evaluation.judge_reference=base)"
            remedy = "give the field answer to each question, and evaluation.judge_reference=answer"
            raise refuse(name, rule, key, remedy)
