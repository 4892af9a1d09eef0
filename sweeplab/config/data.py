"""Where examples come from and how they become text: one class for each data.source."""

from typing import Annotated, Final, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from sweeplab.records.section import Section, Text, key
from sweeplab.runtime.errors import ConfigError

# data.style=alpaca: what stands before a response
ALPACA_WITH_INPUT: Final = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
ALPACA_WITHOUT_INPUT: Final = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)


class RecordFields(NamedTuple):
    """The fields in which a record has its parts. None: there is none, or it is not named."""

    instruction: str | None = None
    output: str | None = None
    input: str | None = None  # that a record may lack
    messages: str | None = None  # chat messages instead of the three


class DataConfig(Section):
    """What every source has."""

    source: str
    name: Text = key("what reports call it")
    num_examples: int | None = key(
        "examples to train on; null: all", None, ge=2, unit="examples", remedy="leave it null for all"
    )
    fraction: float | None = key(
        "share of the training examples to train on; a smaller share is part of a larger one; null: all",
        None,
        gt=0,
        le=1,
        remedy="leave it null for all",
    )
    tasks: list[Text] = key("lm-eval tasks that go with this data")
    retained_tasks: list[Text] = key("those of data.tasks that measure what the model forgets", [])
    objective: Text = key("the metric that a study on this data optimizes")

    def is_images(self) -> bool:
        """True for images and their classes, which go with an image classifier; else it is text."""
        return self.source == "digits"

    @model_validator(mode="after")
    def _check_amount(self) -> Self:
        if self.fraction is not None and self.num_examples is not None:
            raise ConfigError(
                f"data.fraction={self.fraction} and data.num_examples={self.num_examples} both say how many examples; "
                "leave one of them null"
            )
        return self


class TextData(DataConfig):
    """Prompts and responses."""

    style: Literal["plain", "alpaca", "chatml", "template"] = key("how an example becomes a prompt")
    mask_prompt: bool = key("count the loss on the response only")
    packing: bool = key("put several examples in a row of training.max_length; they do not see each other")

    @property
    def record_fields(self) -> RecordFields:
        return RecordFields("instruction", "output", "input")


class WorldData(TextData):
    """Facts and sums of the small world that the embedded base knows."""

    source: Literal["world"] = "world"
    target: Literal["new_facts", "operation"] = key("what is to be learned")


class RecordData(TextData):
    """Records with fields."""

    instruction_field: Text | None = key(
        "the field of a record with the instruction; null: known by its name, as the other fields are",
        None,
        unless="data.messages_field",
    )
    input_field: Text | None = key(
        "the field with the input to the instruction, which a record may lack; null: known by its name, or none where "
        "instruction_field and output_field are given",
        None,
        unless="data.messages_field",
    )
    output_field: Text | None = key("the field with the response", None, unless="data.messages_field")
    messages_field: Text | None = key("the field with chat messages, instead of the three others", None)
    targets: Literal["all", "last"] = key(
        "which answers of a conversation are learned: all, or the last one; weights in its messages come first"
    )
    max_skipped: float = key(
        "largest share of a file's records that may be skipped because they teach nothing, such as an empty answer or "
        "one that training.max_length cuts off whole; more are refused",
        ge=0,
        le=1,
        remedy="try 0.01",
    )
    heldout_fraction: float = key(
        "share of the records that is set aside for the held-out loss",
        unless="data.heldout_path",
        gt=0,
        lt=1,
        remedy="try 0.1",
    )
    num_heldout: int | None = key(
        "at most so many records of a file are set aside; null: all of heldout_fraction",
        None,
        unless="data.heldout_path",
        ge=1,
        unit="examples",
        remedy="leave it null for all of heldout_fraction",
    )

    @property
    def record_fields(self) -> RecordFields:
        return RecordFields(self.instruction_field, self.output_field, self.input_field, self.messages_field)


class FiledData(RecordData):
    """Records that may have held-out ones in a file of their own."""

    heldout_path: Text | None = key("a file of records for the held-out loss; null: heldout_fraction is used", None)


class JsonData(FiledData):
    """A file of your own."""

    source: Literal["json"] = "json"
    path: Text = key(
        "a JSON array, JSON lines, CSV or Parquet; its name ends in .json, .jsonl, .csv, .tsv or .parquet",
        missing="give a JSON, JSONL, CSV or Parquet file of records: data.path=FILE",
    )


class HubData(FiledData):
    """A data set of the Hugging Face hub."""

    source: Literal["hub"] = "hub"
    name: Text = key("the hub's name", min_length=1, missing="give the hub's name of a data set: data.name=ORG/NAME")
    subset: Text | None = key("the configuration of the data set on the hub", None)
    split: Text = key("the split to train on")


class DataPart(Section):
    """One file of a mixture."""

    path: Text = key("a file, as data.path takes it")
    weight: float = key(
        "the file's part of the training examples, relative to the other weights",
        gt=0,
        rule="must be a number above 0",
        remedy="try 1",
    )


class MixtureData(RecordData):
    """Several files in stated proportions."""

    source: Literal["mixture"] = "mixture"
    parts: list[DataPart] = key("the files with their weights")

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if len(self.parts) < 2:
            raise ConfigError(
                f"data.parts must name at least two files, got {len(self.parts)}; give data.parts=[{{path: FILE, "
                "weight: 3}, {path: FILE, weight: 1}], or data=json for one"
            )
        if len({part.path for part in self.parts}) < len(self.parts):
            raise ConfigError("data.parts names a file twice; give each file once, with the sum of its weights")
        return self


class DigitsData(DataConfig):
    """scikit-learn's handwritten digits, for an image classifier."""

    source: Literal["digits"] = "digits"
    target: Literal["rotated", "upright"] = key("how the digits lie")


AnyData = Annotated[WorldData | JsonData | HubData | MixtureData | DigitsData, Field(discriminator="source")]
