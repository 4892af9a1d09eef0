"""What comes after training: held-out losses, the tasks' scores, adapters on disk; and what the base itself scores."""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from peft import PeftModel
from torch import nn

from sweeplab.adapters.attach import attach_adapter, detach_adapter, save_adapter
from sweeplab.builtin.digits import DIGITS_TASKS
from sweeplab.config.evaluation import EvaluationConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.data.batches import Tokenized, make_heldout_batches
from sweeplab.data.images import load_heldout_images
from sweeplab.evaluation.files import fingerprint_files
from sweeplab.evaluation.harness import Evaluation, run_lm_eval
from sweeplab.evaluation.heldout import measure_heldout_loss, score_images
from sweeplab.evaluation.identity import make_probe
from sweeplab.models.base import Base
from sweeplab.models.vision import read_image_size
from sweeplab.multilora.slots import copy_weights, lora_weights
from sweeplab.records.record import BaseScore, TrialRecord, base_key, score_values
from sweeplab.records.store import known_base_score, write_base_score, write_json_lines, writing
from sweeplab.runtime.paths import expand_home
from sweeplab.training.fit import measure_trial_loss
from sweeplab.training.fsdp import take_apart
from sweeplab.training.module import target_logits, target_loss_sum
from sweeplab.training.optimizers import evaluation_weights
from sweeplab.training.running_trial import RunningTrial
from sweeplab.training.together import Together, put_together
from sweeplab.trial.exactness import choose_sharing_rule
from sweeplab.trial.resources import Resources


def score_base(spec: TrialSpec, base: Base, data: Tokenized, record: TrialRecord, resources: Resources) -> None:
    """Scores the base of a trial that is to begin, unless the study has that, or another one beside it.

    A score from elsewhere is of the same source, without changes. Raises `ConfigError`, also for tasks that cannot be
    had, so that they are known before anything has trained.
    """
    config, folder = spec.config, spec.folder.parents[1]
    key = base_key(config.to_dict(), str(base.model.dtype), _fingerprint_tasks(config), record.provenance)
    elsewhere = record.provenance["dirty"] is False
    known = resources.ranks.is_first and known_base_score(folder, key, elsewhere) is not None
    if resources.ranks.broadcast_first(known):
        return
    started, settings = time.perf_counter(), config.evaluation
    batches = data.heldout_batches(base.pad_id, settings.batch_size)
    loss = measure_heldout_loss(base.model, batches, target_loss_sum, resources.device)
    scored = Evaluation({}, [])
    if settings.tasks and config.data.is_images():
        scored = _score_images(base.model, base, settings, resources.device)
    elif settings.tasks:
        rule = choose_sharing_rule(base.model)
        (scored,) = run_lm_eval(
            base.model, base.tokenizer, settings, 1, lambda numbers: nullcontext(), why_unshared=rule
        )
    seconds = time.perf_counter() - started
    if resources.ranks.is_first:
        write_base_score(folder, BaseScore(key, loss, scored.scores, seconds, record.provenance), scored.items)


def score_rung(together: Together, due: Sequence[RunningTrial], resources: Resources) -> None:
    """The scores of `evaluation.rung_tasks` in the middle of the training of `due`, which goes on as without them."""
    evaluation = due[0].spec.config.evaluation
    settings = evaluation.replaced(tasks=evaluation.rung_tasks)
    with ExitStack() as stack:
        stack.enter_context(_random_numbers_kept(resources.device))
        for trial in due:
            stack.enter_context(evaluation_weights(trial.optimizer))
        for trial, scored in zip(due, _score_tasks(together, due, settings, resources), strict=True):
            trial.take_scores(scored.scores)


def evaluate_trials(trials: Sequence[RunningTrial], resources: Resources) -> None:
    """Held-out losses, the tasks' scores with their per-item results beside the records, and the adapters on disk.

    Of several devices each evaluates everything, as one with a part of the base must, and the first one writes.
    """
    settings = trials[0].spec.config.evaluation
    with ExitStack() as stack:
        together = stack.enter_context(put_together(trials))
        for trial in together.trials:
            stack.enter_context(evaluation_weights(trial.optimizer))
        for trial in together.trials:
            trial.take_heldout_loss(measure_trial_loss(together, trial, resources.device))
            if trial.early_end is None:
                trial.record.heldout_loss_nats_per_token = trial.heldout_losses[-1].loss
        whole = [trial for trial in together.trials if trial.early_end is None]
        if settings.tasks and whole:
            for trial, scored in zip(whole, _score_tasks(together, whole, settings, resources), strict=True):
                trial.record.scores = scored.scores
                trial.record.notes += scored.notes
                if settings.rung_tasks:  # a curve over steps has its end, too
                    trial.tell(score_values(scored.scores))
                if resources.ranks.is_first:
                    write_json_lines(trial.spec.folder / "items.jsonl", scored.items)
        if resources.ranks.size > 1:
            take_apart(trials[0].base.model)
        for trial in whole if resources.ranks.is_first else []:
            save_trained(trial)


def save_trained(trial: RunningTrial) -> None:
    """Writes what was trained, except a whole model, which would fill the disk. Raises `StoreError`."""
    config, folder = trial.spec.config, trial.spec.folder / "adapter"
    if config.adapter.method == "none":
        return
    with writing(folder):
        if trial.slot is None:
            trial.record.adapter_bytes = save_adapter(trial.model, folder)
            return
        adapted = attach_adapter(trial.base.model, config.adapter, config.model, trial.spec.seed)
        copy_weights(trial.slot.weights(), lora_weights(adapted))
        trial.record.adapter_bytes = save_adapter(adapted, folder)
        detach_adapter(adapted)


def _score_tasks(
    together: Together, trials: Sequence[RunningTrial], settings: EvaluationConfig, resources: Resources
) -> list[Evaluation]:
    """What `settings.tasks` ask of each of the trials: lm-eval's scores for text, accuracies for images.

    Raises `OtherModelError` where lm-eval would score another model than was trained.
    """
    config, base, model = trials[0].spec.config, trials[0].base, trials[0].model

    def choose(numbers: Sequence[int]) -> AbstractContextManager[None]:
        return together.only([trials[number] for number in numbers])

    if not config.data.is_images():
        (example,) = make_heldout_batches(trials[0].data.heldout[:1], base.pad_id, 1)
        example = move_data_to_device(example, resources.device)
        moved = [_has_moved(trial) for trial in trials]
        probe = make_probe(model, example, target_logits, choose, moved, _without_adapters(together, trials[0]))
        rule = choose_sharing_rule(base.model)
        return run_lm_eval(model, base.tokenizer, settings, len(trials), choose, probe, rule)
    evaluations = []
    for trial in trials:
        with together.only([trial]):
            evaluations.append(_score_images(model, base, settings, resources.device))
    return evaluations


def _score_images(model: nn.Module, base: Base, settings: EvaluationConfig, device: torch.device) -> Evaluation:
    size = read_image_size(base.model.config)
    rows = {task: load_heldout_images(DIGITS_TASKS[task], size)[: settings.limit] for task in settings.tasks}
    batches = {task: make_heldout_batches(images, base.pad_id, settings.batch_size) for task, images in rows.items()}
    return score_images(model, batches, device)


def _has_moved(trial: RunningTrial) -> bool:
    """True where the adapter is far enough from its start, where it changes nothing, to be seen in the logits."""
    if trial.slot is None:
        return trial.step > 0
    eps = torch.finfo(trial.base.model.dtype).eps
    return any(bool(b_OR.abs().max() > eps) for _, b_OR in trial.slot.weights().values())


def _without_adapters(together: Together, trial: RunningTrial) -> AbstractContextManager[object] | None:
    """Within it the model is the base; None for a method that cannot be switched off, or not in mid-training: PEFT's
    switch says anew what is to be trained."""
    if together.packed is not None:
        return together.only([])
    return trial.model.disable_adapter() if isinstance(trial.model, PeftModel) and trial.has_ended else None


@contextmanager
def _random_numbers_kept(device: torch.device) -> Iterator[None]:
    """Random numbers go on afterwards as if nothing had drawn any within: a trial trains on in the middle of them."""
    own, arrays = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(own)
        np.random.set_state(arrays)


def _fingerprint_tasks(config: TrialConfig) -> str | None:
    """The fingerprint of the tasks' own files; None where lm-eval brings them."""
    folder = config.evaluation.data_dir
    return None if folder is None else fingerprint_files(expand_home(folder))
