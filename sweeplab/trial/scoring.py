"""Evaluates trained trials: held-out losses, scores of tasks, adapters saved; and scores the base without adapter."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from itertools import zip_longest
from pathlib import Path

import torch
from lightning.fabric.utilities import move_data_to_device
from peft import PeftModel
from torch import nn

from sweeplab.adapters.attach import attach_adapter, detach_adapter, save_adapter
from sweeplab.builtin.digits import DIGITS_TASKS
from sweeplab.config.evaluation import EvaluationConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.data.batches import Tokenized, make_heldout_batches, order_by_length
from sweeplab.data.images import load_heldout_images
from sweeplab.evaluation.catalog import TaskError
from sweeplab.evaluation.halving import halve_until_it_fits
from sweeplab.evaluation.harness import run_lm_eval
from sweeplab.evaluation.heldout import HeldoutLosses, measure_heldout_losses, score_images
from sweeplab.evaluation.identity import make_probe
from sweeplab.evaluation.results import Evaluation
from sweeplab.evaluation.sampling import draw_sample
from sweeplab.models.base import Base
from sweeplab.models.behavior import random_numbers_kept
from sweeplab.models.vision import read_image_size
from sweeplab.multilora.slots import copy_weights, read_lora_weights
from sweeplab.records.items import make_loss_row
from sweeplab.records.lock import claimed
from sweeplab.records.record import BaseScore, TrialRecord, score_values
from sweeplab.records.store import base_path, known_base_score, write_base_score, write_json_lines, writing
from sweeplab.runtime.errors import ConfigError
from sweeplab.training.attached_cohort import AttachedCohort, attach_cohort
from sweeplab.training.fit import measure_trial_losses
from sweeplab.training.fsdp import free_gathered_weights
from sweeplab.training.module import compute_target_logits, sum_row_losses
from sweeplab.training.optimizers import evaluation_weights
from sweeplab.training.running_trial import RunningTrial
from sweeplab.trial.exactness import choose_sharing_rule
from sweeplab.trial.judging import find_base_key, open_base_references, open_references
from sweeplab.trial.resources import Resources
from sweeplab.trial.unmeasured import refuse_unmeasured


def score_base(spec: TrialSpec, base: Base, data: Tokenized, record: TrialRecord, resources: Resources) -> None:
    """Scores the base before a trial trains, unless this study, or another one in the same folder, has that score, or
    another worker is at it.

    A score of another study counts only where the source is the same and has no uncommitted changes. Raises
    `ConfigError`, also for tasks that lm-eval cannot load, so that this is known before anything is trained.
    """
    config, folder = spec.config, spec.folder.parents[1]
    key = find_base_key(config, str(base.model.dtype), record)
    is_clean = record.provenance["dirty"] is False
    with ExitStack() as stack:
        is_needed = False
        if resources.ranks.is_first:
            is_first = stack.enter_context(claimed(base_path(folder, key).with_suffix(".lock")))
            known = known_base_score(folder, key, is_clean)
            if known is not None:
                refuse_unmeasured(folder, known.scores, None)
            is_needed = is_first and known is None
        if resources.ranks.broadcast_first(is_needed):
            _measure_base(config, base, data, folder, key, record, resources)


def _measure_base(
    config: TrialConfig,
    base: Base,
    data: Tokenized,
    folder: Path,
    key: str,
    record: TrialRecord,
    resources: Resources,
) -> None:
    """Scores the base and writes that; `record` gets notes. Raises `ConfigError` as `score_base`."""
    started, settings = time.perf_counter(), config.evaluation
    resources.tell("scoring the base", [])

    def measure(batch_size: int) -> HeldoutLosses:
        batches = data.heldout_batches(base.pad_id, batch_size, base.growing_length)
        return measure_heldout_losses(base.model, batches, sum_row_losses, resources.device)

    def score(batch_size: int) -> Evaluation:
        return _score_base_tasks(base, config, batch_size, resources, folder)

    losses = halve_until_it_fits(settings.batch_size, measure, record.notes, resources.ranks)
    scored = Evaluation({}, [])
    if settings.tasks:
        scored = halve_until_it_fits(settings.batch_size, score, record.notes, resources.ranks)
    seconds = time.perf_counter() - started
    if resources.ranks.is_first:
        refuse_unmeasured(folder, scored.scores, scored.unmeasured)
        prompts = [None if prompt is None else {"prompt": prompt} for prompt in scored.prompts]  # once for all trials
        rows = [row | (prompt or {}) for row, prompt in zip_longest(scored.items, prompts)]  # groups' rows come last
        items = [make_loss_row(*losses.restored(order_by_length(data.heldout))), *rows]
        write_base_score(folder, BaseScore(key, losses.mean, scored.scores, seconds, record.provenance), items)


def _score_base_tasks(
    base: Base, config: TrialConfig, batch_size: int, resources: Resources, folder: Path
) -> Evaluation:
    """The scores of the base itself; `folder`: of the study. Raises `ConfigError` for tasks that do not run."""
    settings = config.evaluation.replaced(batch_size=batch_size)
    if config.data.is_images():
        return _score_images(base.model, base, settings, resources.device)
    try:
        (scored,) = run_lm_eval(
            base.model,
            base.tokenizer,
            settings,
            1,
            lambda numbers: nullcontext(),
            rule=choose_sharing_rule(base.model),
            tell=lambda _, count: resources.tell("scoring the base", [], count),
            references=open_base_references(settings, folder, resources),
        )
    except TaskError as error:  # before anything is trained
        raise ConfigError(f"evaluation.tasks has a task that does not run: {error}; drop the task") from error
    return scored


def score_rung(cohort: AttachedCohort, due: Sequence[RunningTrial], resources: Resources) -> None:
    """Scores `evaluation.rung_tasks` for the trials `due` during their training.

    The state of random number generators is restored, so the training goes on as if nothing had been scored.
    """
    evaluation = due[0].spec.config.evaluation
    settings = evaluation.replaced(tasks=evaluation.rung_tasks, clusters={})
    with ExitStack() as stack:
        stack.enter_context(random_numbers_kept(resources.device))
        for trial in due:
            stack.enter_context(evaluation_weights(trial.optimizer))
        for trial, scored in zip(due, _score_tasks(cohort, due, settings, resources), strict=True):
            trial.add_scores(scored.scores)


def evaluate_trials(trials: Sequence[RunningTrial], resources: Resources) -> None:
    """Measures held-out losses, saves the adapters, and measures the tasks' scores, with per-item results.

    Adapters are saved first, so that no trained trial is lost where its scoring fails. With several devices each one
    evaluates everything, since a sharded base needs all devices in every forward; only the first one writes files.
    """
    settings = trials[0].spec.config.evaluation
    with ExitStack() as stack:
        stack.enter_context(resources.scoring([trial.spec.number for trial in trials]))
        cohort = stack.enter_context(attach_cohort(trials, trains=False))
        for trial in cohort.trials:
            stack.enter_context(evaluation_weights(trial.optimizer))
        items = {}
        for trial in cohort.trials:
            resources.tell("scoring", [trial.spec.number], "held-out loss")
            losses = _measure_end(cohort, trial, resources)
            if trial.early_end is None:
                items[trial] = [make_loss_row(*losses)]
        finished = list(items)
        if resources.ranks.size > 1:
            free_gathered_weights(trials[0].base.model)
        for trial in finished if resources.ranks.is_first else []:
            save_trained_weights(trial)
        if settings.tasks and finished:
            for trial, scored in zip(finished, _score_tasks(cohort, finished, settings, resources), strict=True):
                trial.record.scores = scored.scores
                trial.record.notes += scored.notes
                items[trial] += scored.items
                if settings.rung_tasks and trial.record.kept_step in (None, trial.step):  # the curve's last point
                    trial.report_metrics(score_values(scored.scores))
        for trial, rows in items.items() if resources.ranks.is_first else ():
            write_json_lines(trial.spec.folder / "items.jsonl", rows)


def _measure_end(cohort: AttachedCohort, trial: RunningTrial, resources: Resources) -> HeldoutLosses:
    """The held-out losses of the weights that a trial ends with, which it has afterwards: of `training.keep`.

    What was measured and kept is not measured again: weights of before may stand where this is a second attempt.
    """
    kept = trial.kept
    if kept is None or trial.heldout_losses[-1].step < trial.step:
        losses = measure_trial_losses(cohort, trial, resources.device, resources.ranks)
        trial.add_heldout_losses(losses, resources.ranks.broadcast_first(losses.mean))
        if trial.early_end is not None:
            return losses
        kept = trial.kept
        if kept is None:
            trial.record.heldout_loss_nats_per_token = trial.heldout_losses[-1].loss
            return losses
    kept.restore(trial.parameters)
    trial.record.kept_step, trial.record.heldout_loss_nats_per_token = kept.step, kept.loss
    return kept.losses


def save_trained_weights(trial: RunningTrial) -> None:
    """Saves the trained weights into the trial's folder, except those of full finetuning, which would fill the disk.

    Raises `StoreError`.
    """
    config, folder = trial.spec.config, trial.spec.folder / "adapter"
    if config.adapter.method == "none":
        return
    with writing(folder):
        if trial.slot is None:
            trial.record.adapter_bytes = save_adapter(trial.model, folder)
            return
        adapted = attach_adapter(trial.base.model, config.adapter, config.model, trial.spec.seed)
        copy_weights(trial.slot.weights(), read_lora_weights(adapted))
        trial.record.adapter_bytes = save_adapter(adapted, folder)
        detach_adapter(adapted)


def _score_tasks(
    cohort: AttachedCohort, trials: Sequence[RunningTrial], settings: EvaluationConfig, resources: Resources
) -> list[Evaluation]:
    """Scores of `settings.tasks` for each trial: those of lm-eval for text, accuracies for images.

    Raises `OtherModelError` where lm-eval would score another model than the trained one.
    """
    notes: list[str] = []

    def score(batch_size: int) -> list[Evaluation]:
        return _score_with(cohort, trials, settings.replaced(batch_size=batch_size), resources)

    evaluations = halve_until_it_fits(settings.batch_size, score, notes, resources.ranks)
    for trial in trials:
        trial.record.notes += [note for note in notes if note not in trial.record.notes]
    return evaluations


def _score_with(
    cohort: AttachedCohort, trials: Sequence[RunningTrial], settings: EvaluationConfig, resources: Resources
) -> list[Evaluation]:
    """As `_score_tasks`, with the batches of `settings`."""
    config, base, model = trials[0].spec.config, trials[0].base, trials[0].model
    device = resources.device

    def tell(trial: int, count: str) -> None:
        resources.tell("scoring", [trials[trial].spec.number], count)

    def select_trials(numbers: Sequence[int]) -> AbstractContextManager[None]:
        return cohort.only([trials[number] for number in numbers])

    if not config.data.is_images():
        (example,) = make_heldout_batches(trials[0].data.heldout[:1], base.pad_id, 1)
        example = move_data_to_device(example, device)
        moved = [_has_moved(trial) for trial in trials]
        probe = make_probe(
            model, example, compute_target_logits, select_trials, moved, _without_adapters(cohort, trials[0])
        )
        rule = choose_sharing_rule(base.model)
        first, dtype = trials[0], str(base.model.dtype)
        key = find_base_key(config, dtype, first.record)
        references = open_references(settings, first.spec.folder.parents[1], key, resources)
        return run_lm_eval(model, base.tokenizer, settings, len(trials), select_trials, probe, rule, tell, references)
    evaluations = []
    for trial in trials:
        with cohort.only([trial]):
            evaluations.append(_score_images(model, base, settings, device))
    return evaluations


def _score_images(model: nn.Module, base: Base, settings: EvaluationConfig, device: torch.device) -> Evaluation:
    size = read_image_size(base.model.config)
    images = {task: load_heldout_images(DIGITS_TASKS[task], size) for task in settings.tasks}
    samples = {task: draw_sample(len(rows), settings) for task, rows in images.items()}
    batches = {
        task: make_heldout_batches([images[task][index] for index in sample], base.pad_id, settings.batch_size)
        for task, sample in samples.items()
    }
    return score_images(model, batches, samples, device)


def _has_moved(trial: RunningTrial) -> bool:
    """True where training has changed the adapter enough to see it in the logits; a new one changes nothing."""
    if trial.slot is None:
        return trial.step > 0
    eps = torch.finfo(trial.base.model.dtype).eps
    return any(bool(b_OR.abs().max() > eps) for _, b_OR in trial.slot.weights().values())


def _without_adapters(cohort: AttachedCohort, trial: RunningTrial) -> AbstractContextManager[object] | None:
    """Within it the model computes what the base does.

    None where the adapter cannot be switched off, or the trial still trains: PEFT's switch also sets which weights
    require gradients.
    """
    if cohort.packed is not None:
        return cohort.only([])
    return trial.model.disable_adapter() if isinstance(trial.model, PeftModel) and trial.has_ended else None
