"""What the study found, in sentences that claim no more than the records show."""

from sweeplab.records import METRICS, StudyFacts, TrialRecord
from sweeplab.report.settings import (
    Setting,
    Spread,
    best_setting,
    complete,
    first_objective,
    margin_of,
    not_clearly_worse,
)
from sweeplab.report.tables import any_shared, memory_metric
from sweeplab.report.wording import DASH, amount, margin, metric_label, plural


def answer(facts: StudyFacts, settings: list[Setting]) -> list[str]:
    """The first sentence answers, the others say how far to trust it."""
    num_started = sum(len(setting.started) for setting in settings)
    num_skipped = sum(len(setting.records) for setting in settings) - num_started
    num_finished = sum(len(setting.finished) for setting in settings)
    planned = "" if facts.num_planned is None else f" ({facts.num_planned} planned)"
    tally = f"{num_finished} of {plural(num_started, 'started trial')} finished{planned}."
    if num_skipped:
        tally += f" {plural(num_skipped, 'trial')} skipped: predicted not to fit in plan.device_memory."
    cuts = truncation([record for setting in settings for record in setting.records])
    if num_started == num_skipped == 0:
        return ["No trial has been recorded yet."]
    if num_finished == 0:
        return ["No trial finished, so there is nothing to compare; the reasons are with the trials.", *cuts, tally]
    best = best_setting(facts, settings)
    label = metric_label(first_objective(facts)[0])
    if best is None:
        return [f"No setting has the {label} of every seed, so none is called the best.", *cuts, tally]
    return [finding(facts, settings, best), *cautions(facts, settings, best), *cuts, tally]


def truncation(records: list[TrialRecord]) -> list[str]:
    """Where examples were cut: for each length, the trial that lost the most of them."""
    worst: dict[int, TrialRecord] = {}
    for record in records:
        if record.num_truncated:
            length = record.config["training"]["max_length"]
            before = worst.setdefault(length, record)
            worst[length] = max(before, record, key=lambda one: one.num_truncated or 0)
    found = []
    for length, record in sorted(worst.items()):
        out_of = "" if record.num_train_examples is None else f" of {record.num_train_examples:,}"
        dropped = f", {record.num_dropped:,} of them before their response, and these were left out"
        found.append(
            f"training.max_length={length} cut {record.num_truncated:,}{out_of} training examples"
            f"{dropped if record.num_dropped else ''}; raise it to learn from them whole."
        )
    return found


def finding(facts: StudyFacts, settings: list[Setting], best: Setting) -> str:
    metric, direction = first_objective(facts)
    spread = best.spreads[metric]
    value = amount(metric, spread.mean, spread.std)
    over = (
        f"mean ± standard deviation over {plural(spread.num_seeds, 'seed')}" if spread.std is not None else "one seed"
    )
    if len(settings) == 1:
        return f"One setting was run ({best.label}): {metric_label(metric)} {value} ({over})."
    extreme = "lowest" if direction == "minimize" else "highest"
    told = f"has the {extreme} mean {metric_label(metric)}: {value} ({over})."
    if all(complete(facts, setting) for setting in settings):
        return f"{best.label} {told}"
    return f"Of the settings with a value for every seed, {best.label} {told}"


def cautions(facts: StudyFacts, settings: list[Setting], best: Setting) -> list[str]:
    """Which settings the numbers do not tell from the best, and which could not take part."""
    metric, _ = first_objective(facts)
    spread = best.spreads[metric]
    found = []
    if spread.num_seeds == 1:
        found.append("With one seed no spread over seeds can be given, so a difference may be chance.")
    rivals = [setting for setting in settings if setting is not best and complete(facts, setting)]
    close = not_clearly_worse(facts, settings, best)
    if rivals and margin_of(spread) is not None:
        found.append(closeness(metric, spread, close))
    left_out = [setting for setting in settings if not complete(facts, setting)]
    if left_out:
        names = "; ".join(f"{setting.label} ({setting.counts} finished{setting.skipped})" for setting in left_out)
        found.append(f"Not ranked, because not every seed has a value: {names}.")
    return found


def closeness(metric: str, spread: Spread, close: list[Setting]) -> str:
    size = margin_of(spread) or 0.0
    source = "standard deviation over seeds" if size == spread.std else "standard error over items"
    reach = f"{margin(metric, size)}, the best's {source}"
    if close:
        return f"Not clearly worse, with a mean within {reach}: {'; '.join(one.label for one in close)}."
    return f"No other setting's mean is within {reach}; this is a rule of thumb, not a significance test."


def reading(facts: StudyFacts, records: list[TrialRecord]) -> list[tuple[str, str]]:
    """What the report's numbers mean, for readers who were not there: (term, explanation)."""
    label = metric_label(first_objective(facts)[0])
    memory = memory_metric(records)
    explained = [
        (
            "±",
            "Standard deviation over seeds (divided by n - 1): how far a repeat with another seed lies from the mean. "
            "It is no confidence interval, and with few seeds it is rough. One seed has none.",
        ),
        (
            "finished",
            "Finished trials of started ones. Only finished trials count in the settings' numbers; a setting that lost "
            "a trial is shown, but is not called the best.",
        ),
        (
            "best",
            f"The best mean {label} of the settings that have a value for every seed. Settings named as not clearly "
            "worse lie within the best's own spread: a rule of thumb, not a significance test.",
        ),
    ]
    if any(one.heldout_loss_nats_per_token is not None for one in records):
        explained.append(
            (
                "held-out loss",
                "Mean negative log-likelihood of what is to be learned in examples kept out of training, in nats per "
                "target, which is a token of a response or the class of an image; lower is better.",
            )
        )
    if any(one.scores for one in records):
        explained.append(
            (
                "se",
                "The standard error of a score over its items, averaged over seeds: what another draw of as many "
                "test items would change. It does not cover the choice of seed.",
            )
        )
    if any_shared(records):
        explained += together(memory)
    elif memory is not None:
        explained.append((METRICS[memory].label, "The highest value while training, with the base model included."))
    explained.append((DASH, "No value: it was not measured, or no trial finished. Nothing is filled in."))
    return explained


def together(memory: str | None) -> list[tuple[str, str]]:
    """What time and memory mean in a study whose trials shared a base: (term, explanation)."""
    explained = [
        (
            "a step alone",
            "The fastest of a few optimizer steps of the trial alone on the base, at its longest batch, measured "
            "before it trained. The time of its training is no number of its own, since others trained at the same "
            "time. A setting that needs the base for itself is not probed; its whole training is given in small print.",
        ),
        (
            "trained among",
            "How many trials shared the base with this one at some moment of its training or evaluation, itself "
            "included. Its losses and scores are its own; its time in a phase is the time of all of them together, "
            "and must not be added over trials.",
        ),
    ]
    if memory is not None:
        said = "The highest value in these steps, with the base and without other trials."
        explained.append((METRICS[memory].label, said))
    return explained
