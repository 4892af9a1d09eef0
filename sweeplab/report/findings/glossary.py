"""What the report's numbers mean, for readers who did not run the study."""

from sweeplab.records.items import Items
from sweeplab.records.metrics import METRICS
from sweeplab.records.record import StudyFacts, TrialRecord
from sweeplab.report.evidence.costs import (
    STEP_SECONDS,
    TENSOR_BYTES,
    WHOLE_TRAINING,
    choose_memory_metric,
    choose_resident_metric,
    has_shared_training,
)
from sweeplab.report.evidence.formatting import DASH, label_metric
from sweeplab.report.evidence.item_values import list_without_items
from sweeplab.report.evidence.settings import first_objective
from sweeplab.statistics.spreads import TEST_LEVEL


def explain_terms(facts: StudyFacts, records: list[TrialRecord], items: Items | None = None) -> list[tuple[str, str]]:
    """What the report's numbers mean, as (term, explanation)."""
    label = label_metric(first_objective(facts)[0])
    memory = choose_memory_metric(records)
    explained = [
        (
            "±",
            "Standard deviation over seeds (divided by n - 1): how far a repeat with another seed lies from the mean. "
            "It is no interval of the mean, and with few seeds it is rough. One seed has none.",
        ),
        (
            "[low, high]",
            "An interval that holds with 95 % for all settings at once and however often one looks, over other seeds "
            "on the same items. Settings share what is known of the spread over seeds; one that spreads more than all "
            f"the others (a test at {100 * TEST_LEVEL:.1f} %) has an interval from its own seeds alone, marked 'own "
            "spread'. With one seed it is over items (Wilson's for a share), and does not cover the seed. An interval "
            "ends where the metric does: at 0 for a loss, a time or a size, and at 0 and 1 for a share.",
        ),
        (
            "finished",
            "Finished trials of started ones. A trial that failed, diverged or was pruned counts as the worst loss or "
            "score of the study; one that has not run yet is missing, and others are compared without it.",
        ),
        (
            "best",
            f"The best mean {label} of the settings with two seeds at least. Whether another is worse is judged by "
            "differences within seeds, and within items where their results are stored, with intervals for all pairs "
            "at once: in 95 of 100 studies no setting is called worse that is not, however often one looks. With one "
            "seed nothing is called worse. That a setting may be as good as the best does not say that it is.",
        ),
    ]
    if any(one.heldout_loss_nats_per_token is not None for one in records):
        explained.append(
            (
                "held-out loss",
                "Mean negative log-likelihood of what is to be learned in examples kept out of training, in nats per "
                "target, which is a token of a response or the class of an image; lower is better. "
                "Commands and records name it heldout_loss_nats_per_token, of those tokens.",
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
    explained += _explain_items(records, items)
    if has_shared_training(records):
        explained += _explain_shared_training(memory, records)
    elif memory is not None:
        explained.append((METRICS[memory].label, _explain_memory(memory, records)))
    explained.append((DASH, "No value: it was not measured, or no trial finished. Nothing is filled in."))
    return explained


def _explain_items(records: list[TrialRecord], items: Items | None) -> list[tuple[str, str]]:
    """What intervals over items assume, and which scores have none; nothing of records that do not say."""
    asked = [one.config["evaluation"] for one in records if "clusters" in one.config.get("evaluation", {})]
    clusters = {f"{task} by {field}" for one in asked for task, field in one["clusters"].items()}
    sentences = []
    if asked and items is not None:
        apart = f", but for clusters ({', '.join(sorted(clusters))}), each of which counts once" if clusters else ""
        sentences.append(
            f"An interval over items takes them as independent of each other{apart}. Which few-shot examples were "
            "drawn and how the data were split lie outside every interval."
        )
    lacking = list_without_items(records, items)
    if lacking:
        sentences.append(
            f"No items: {', '.join(label_metric(name) for name in lacking)}. Such a score is not the mean of what its "
            "items say, so settings are not compared item by item."
        )
    return [("items", " ".join(sentences))] if sentences else []


def _explain_memory(memory: str, records: list[TrialRecord]) -> str:
    """What the memory of the study means, and the resident set beside it."""
    if memory != TENSOR_BYTES:
        if has_shared_training(records):
            return "The highest value in these steps, with the base and without other trials."
        return "The highest value while training, with the base model included."
    sentences = (
        "The most bytes that tensors held at once in two optimizer steps of the trial alone at its longest batch, with "
        "the base. It is counted, so it repeats to the byte."
    )
    if choose_resident_metric(records) is None:
        return sentences
    return (
        f"{sentences} Python, its libraries and their scratch memory are not in it; they are in the resident memory of "
        "the process, which moves by tens of MB from run to run and ranks nothing."
    )


def _explain_spread(records: list[TrialRecord]) -> str:
    """What stands beside the time of a step, in records that have it."""
    if all(record.solo is None or record.solo.step_processor_seconds is None for record in records):
        return ""
    return (
        " Beside it stand the median and the slowest of the timed steps, and the processor time of a step, summed over "
        "threads: on a machine that others use too, compare processor times, since waiting is not in them."
    )


def _explain_shared_training(memory: str | None, records: list[TrialRecord]) -> list[tuple[str, str]]:
    """What time and memory mean in a study whose trials shared a base: (term, explanation)."""
    explained = [
        (
            METRICS[STEP_SECONDS].label,
            "The fastest of a few optimizer steps of the trial alone on the base, at its longest batch, measured "
            "before it trained. The time of its training is no number of its own, since others trained at the same "
            "time. A setting that needs the base for itself is not probed: its training's time by its steps, and its "
            f"training's memory, stand there with the words '{WHOLE_TRAINING}', and rank nothing."
            + _explain_spread(records),
        ),
        (
            "trained among",
            "How many trials shared the base with this one at some moment of its training or evaluation, itself "
            "included. Its losses and scores are its own; its time in a phase is the time of all of them together, "
            "and must not be added over trials.",
        ),
    ]
    if memory is not None:
        explained.append((METRICS[memory].label, _explain_memory(memory, records)))
    return explained
