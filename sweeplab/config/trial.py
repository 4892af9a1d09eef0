"""What one trial is, apart from its seed."""

from sweeplab.config.adapter import AnyAdapter
from sweeplab.config.data import AnyData
from sweeplab.config.evaluation import EvaluationConfig
from sweeplab.config.model import AnyModel
from sweeplab.config.optimizer import AnyOptimizer
from sweeplab.config.quantization import AnyQuantization
from sweeplab.config.training import AnySchedule, TrainingConfig
from sweeplab.records.section import Section, key


class TrialConfig(Section):
    """What one trial is, apart from its seed."""

    model: AnyModel = key("the frozen base")
    quantization: AnyQuantization = key("the bits of the base")
    adapter: AnyAdapter = key("what is trained beside the base")
    data: AnyData = key("where examples come from, and how they become text")
    optimizer: AnyOptimizer = key("the optimizer and its own arguments")
    schedule: AnySchedule = key("the learning rate at each step")
    training: TrainingConfig = key("how long, and how much at a time")
    evaluation: EvaluationConfig = key("what a trial is scored on")
