"""The beginning of a trial: its base and data are loaded, and its adapter is attached."""

from sweeplab.adapters.attach import attach_adapter, detach_adapter
from sweeplab.adapters.lora import describe_adapter_layers, why_alone_on
from sweeplab.config.shared_base import takes_vectors
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.data.batches import Tokenized
from sweeplab.evaluation.files import fingerprint_tasks
from sweeplab.models.base import Base
from sweeplab.multilora.slots import Slot, list_lora_matrices, read_lora_weights
from sweeplab.records.inputs import refuse_changed_inputs
from sweeplab.records.record import TrialRecord
from sweeplab.records.store import read_facts
from sweeplab.runtime.errors import ConfigError
from sweeplab.runtime.provenance import describe_provenance
from sweeplab.training.optimizers import find_peak_rate
from sweeplab.training.running_trial import Observe, RunningTrial
from sweeplab.training.start import start_trial
from sweeplab.trial.measurement import measure_phase
from sweeplab.trial.resources import Resources


def asks_for_solo(spec: TrialSpec) -> bool:
    """True where an objective, a constraint or a claim of the study is what a trial needs alone, in a step."""
    facts = read_facts(spec.folder.parents[1])
    if facts is None:
        return False
    claimed = [str(claim.get("metric")) for claim in facts.claims]
    return any(metric.startswith("solo.") for metric in (*facts.objectives, *facts.constraints, *claimed))


def load_trial(spec: TrialSpec, record: TrialRecord, resources: Resources) -> tuple[Base, Tokenized]:
    """The base and the data of the trial; those of the last trial are used again where they are the same.

    Raises `ConfigError`.
    """
    record.phase = "load"
    with measure_phase(record.phases, "load", resources.device):
        base = resources.base_for(spec.config)
        data = resources.tokens_for(spec.config, base)
    record.provenance = describe_provenance(resources.device, base.fingerprint, data.fingerprint)
    if base.settings_fingerprint is not None:
        record.provenance["settings_fingerprint"] = base.settings_fingerprint
    tasks_fingerprint = fingerprint_tasks(spec.config.evaluation)
    if tasks_fingerprint is not None:
        record.provenance["tasks_fingerprint"] = tasks_fingerprint
    refuse_changed_inputs(record.config, spec.fingerprints, record.provenance)
    return base, data


def attach_trial(
    spec: TrialSpec, base: Base, data: Tokenized, record: TrialRecord, resources: Resources, observe: Observe
) -> RunningTrial:
    """The trial with a fresh adapter, ready to train. Raises `ConfigError`."""
    record.num_train_examples, record.num_heldout_examples = data.num_examples, data.num_heldout
    record.num_truncated, record.num_dropped = data.num_truncated, data.num_dropped
    record.num_heldout_truncated, record.num_naming_special = data.num_heldout_truncated, data.num_naming_special
    record.num_skipped, record.num_learned = data.num_skipped, data.num_learned
    record.notes += [note for note in (*data.notes, *data.warnings) if note not in record.notes]
    why = None if spec.geometry is None else why_alone_on(base.model, spec.config)
    if why is not None:
        if asks_for_solo(spec) and resources.device.type != "cpu":
            raise ConfigError(
                f"this trial trains alone ({why}), and has no measurement before it on a GPU; use metrics of "
                "phases.train in place of solo, or executor.device=cpu"
            )
        record.notes.append(f"trained alone: {why}")
    model = attach_adapter(base.model, spec.config.adapter, spec.config.model, spec.seed)
    record.num_trainable_params = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    record.num_total_params, record.base_bits_per_param = base.num_params, base.bits_per_param
    record.adapter_layers = describe_adapter_layers(model, lambda name: find_peak_rate(spec.config, name))
    slot = None
    if spec.geometry is not None and why is None:
        by_rank = resources.device.type == "cuda"  # a CPU does not wait for launches
        matrices, weights = list_lora_matrices(model), read_lora_weights(model)
        slot = Slot(matrices, weights, spec.seed, takes_vectors(spec.config), by_rank)
        model = detach_adapter(model)
    return start_trial(spec, record, base, data, model, slot, observe, resources.trial_seconds)


def begin_trial(spec: TrialSpec, record: TrialRecord, resources: Resources, observe: Observe) -> RunningTrial:
    """The trial before its first step, with base and data loaded and adapter attached. Raises `ConfigError`."""
    base, data = load_trial(spec, record, resources)
    return attach_trial(spec, base, data, record, resources, observe)
