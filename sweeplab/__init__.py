"""Which LoRA or QLoRA settings for this model, this data and this GPU, and how sure can one be?"""

from importlib.metadata import version

__version__ = version("sweeplab")
