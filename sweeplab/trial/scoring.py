"""What comes after training: held-out losses, the tasks' scores, adapters on disk; and what the base itself scores."""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from peft import PeftModel

from sweeplab.adapters.attach import attach_adapter, detach_adapter, save_adapter
from sweeplab.builtin.digits import DIGITS_TASKS
from sweeplab.config.evaluation import EvaluationConfig
from sweeplab.config.trial import TrialConfig
from sweeplab.config.trial_spec import TrialSpec
from sweeplab.data.batches import make_heldout_batches
from sweeplab.data.images import load_heldout_images
from sweeplab.evaluation.files import fingerprint_files
from sweeplab.evaluation.harness import Evaluation, run_lm_eval
from sweeplab.evaluation.heldout import score_images
from sweeplab.evaluation.identity import Probe, make_probe
from sweeplab.models.base import Base
from sweeplab.models.vision import read_image_size
from sweeplab.multilora.packed import Packed
from sweeplab.multilora.slots import copy_weights, lora_weights
from sweeplab.records.record import BaseScore, TrialRecord, base_key, score_values
from sweeplab.records.store import known_base_score, write_base_score, write_json_lines, writing
from sweeplab.runtime.paths import expand_home
from sweeplab.training.fsdp import take_apart
from sweeplab.training.module import target_logits
from sweeplab.training.optimizers import evaluation_weights
from sweeplab.trial.lifecycle import Choose, Run, choosing, load, loss_of, loss_on, together
from sweeplab.trial.resources import Resources


def chosen(choose: Choose, runs: Sequence[Run], places: Sequence[int]) -> AbstractContextManager[None]:
    return choose([runs[place] for place in places])


def has_moved(run: Run) -> bool:
    """True where the adapter is far enough from its start, where it changes nothing, to be seen in the logits."""
    if run.slot is None:
        return run.member.step > 0
    eps = torch.finfo(run.base.model.dtype).eps
    return any(bool(b_OR.abs().max() > eps) for _, b_OR in run.slot.weights().values())


def without_adapters(run: Run, packed: Packed | None) -> AbstractContextManager[object] | None:
    """Within it the model is the base; None for a method that cannot be switched off, or not in mid-training: PEFT's
    switch says anew what is to be trained."""
    if packed is not None:
        return packed.only([])
    return run.model.disable_adapter() if isinstance(run.model, PeftModel) and run.member.has_ended else None


def probe_of(runs: Sequence[Run], choose: Choose, packed: Packed | None, resources: Resources) -> Probe:
    """A held-out example through the training's own forward, to hold against what lm-eval sees."""
    first = runs[0]
    (batch,) = make_heldout_batches(first.data.heldout[:1], first.base.pad_id, 1)
    batch = move_data_to_device(batch, resources.device)
    moved = [has_moved(run) for run in runs]
    off = without_adapters(first, packed)
    return make_probe(first.model, batch, target_logits, partial(chosen, choose, runs), moved, off)


def image_scores(model: torch.nn.Module, base: Base, settings: EvaluationConfig, device: torch.device) -> Evaluation:
    size = read_image_size(base.model.config)
    rows = {task: load_heldout_images(DIGITS_TASKS[task], size)[: settings.limit] for task in settings.tasks}
    batches = {task: make_heldout_batches(images, base.pad_id, settings.batch_size) for task, images in rows.items()}
    return score_images(model, batches, device)


def scored(
    runs: Sequence[Run], settings: EvaluationConfig, choose: Choose, packed: Packed | None, resources: Resources
) -> list[Evaluation]:
    """What `settings.tasks` ask of every run: lm-eval's scores for text, accuracies for images.

    Raises `OtherModelError` where lm-eval would score another model than was trained.
    """
    config, base, model = runs[0].spec.config, runs[0].base, runs[0].model
    if not config.data.is_images():
        select, probe = partial(chosen, choose, runs), probe_of(runs, choose, packed, resources)
        return run_lm_eval(model, base.tokenizer, settings, len(runs), select, probe)
    evaluations = []
    for run in runs:
        with choose([run]):
            evaluations.append(image_scores(model, base, settings, resources.device))
    return evaluations


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Random numbers go on afterwards as if nothing had drawn any within: a trial trains on in the middle of them."""
    own, arrays = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(own)
        np.random.set_state(arrays)


def score_rung(runs: Sequence[Run], packed: Packed | None, resources: Resources) -> None:
    """The scores of `evaluation.rung_tasks` in the middle of the training of `runs`, which goes on as without them."""
    asked = runs[0].spec.config.evaluation
    settings = replace(asked, tasks=asked.rung_tasks)
    with ExitStack() as stack:
        stack.enter_context(undisturbed(resources.device))
        for run in runs:
            stack.enter_context(evaluation_weights(run.member.optimizer))
        for run, made in zip(runs, scored(runs, settings, choosing(packed), packed, resources), strict=True):
            run.member.take_scores(made.scores)


def task_data(config: TrialConfig) -> str | None:
    """The fingerprint of the tasks' own files; None where lm-eval brings them."""
    folder = config.evaluation.data_dir
    return None if folder is None else fingerprint_files(expand_home(folder))


def score_base(spec: TrialSpec, resources: Resources, record: TrialRecord) -> None:
    """Scores the base of a trial that is to begin, unless the study has that, or another one beside it.

    A score from elsewhere is of the same source, without changes. Raises `ConfigError`, also for tasks that cannot be
    had, so that they are known before anything has trained.
    """
    base, data = load(spec, resources, record)
    config, folder = spec.config, spec.folder.parents[1]
    key = base_key(asdict(config), str(base.model.dtype), task_data(config), record.provenance)
    elsewhere = record.provenance["dirty"] is False
    known = resources.ranks.is_first and known_base_score(folder, key, elsewhere) is not None
    if resources.ranks.broadcast_first(known):
        return
    started, settings = time.perf_counter(), config.evaluation
    loss = loss_on(data, base.model, base, config, resources)
    made = Evaluation({}, [])
    if settings.tasks and config.data.is_images():
        made = image_scores(base.model, base, settings, resources.device)
    elif settings.tasks:
        (made,) = run_lm_eval(base.model, base.tokenizer, settings, 1, lambda places: nullcontext())
    seconds = time.perf_counter() - started
    if resources.ranks.is_first:
        write_base_score(folder, BaseScore(key, loss, made.scores, seconds, record.provenance), made.items)


def evaluate(runs: Sequence[Run], resources: Resources) -> None:
    """Held-out losses, the tasks' scores with their per-item results beside the records, and the adapters on disk.

    Of several devices each evaluates everything, as one with a part of the base must, and the first one writes.
    """
    settings = runs[0].spec.config.evaluation
    with ExitStack() as stack:
        ordered, packed = stack.enter_context(together(runs))
        choose = choosing(packed)
        for run in ordered:
            stack.enter_context(evaluation_weights(run.member.optimizer))
        for run in ordered:
            with choose([run]):
                run.member.take_heldout_loss(loss_of(run, resources))
            if run.member.early is None:
                run.record.heldout_loss_nats_per_token = run.member.heldout_losses[-1].loss
        whole = [run for run in ordered if run.member.early is None]
        if settings.tasks and whole:
            for run, evaluation in zip(whole, scored(whole, settings, choose, packed, resources), strict=True):
                run.record.scores = evaluation.scores
                if settings.rung_tasks:  # a curve over steps has its end, too
                    run.member.observe(run.member.step, score_values(evaluation.scores))
                if resources.ranks.is_first:
                    write_json_lines(run.spec.folder / "items.jsonl", evaluation.items)
        if resources.ranks.size > 1:
            take_apart(runs[0].base.model)
        for run in whole if resources.ranks.is_first else []:
            save(run)


def save(run: Run) -> None:
    """Writes what was trained, except a whole model, which would fill the disk. Raises `StoreError`."""
    config, folder = run.spec.config, run.spec.folder / "adapter"
    if config.adapter.method == "none":
        return
    with writing(folder):
        if run.slot is None:
            run.record.adapter_bytes = save_adapter(run.model, folder)
            return
        adapted = attach_adapter(run.base.model, config.adapter, config.model, run.spec.seed)
        copy_weights(run.slot.weights(), lora_weights(adapted))
        run.record.adapter_bytes = save_adapter(adapted, folder)
        detach_adapter(adapted)
