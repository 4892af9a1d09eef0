"""Quantization of the frozen base: which matrix has which scheme, and the layers that hold it."""

import logging

# On a CPU with bfloat16 instructions it says that no kernel was loaded from the hub, and none shall be.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
