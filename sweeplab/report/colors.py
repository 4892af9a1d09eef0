"""The colors of charts, on a light and on a dark page, and the ramp of a heatmap."""

from typing import Final

# Okabe and Ito 2008, without black and yellow, which cannot be seen on a dark or on a light page.
PALETTE: Final = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#7F7F7F")
DARK_PALETTE: Final = ("#56B4E9", "#F28C4B", "#2EC79A", "#F0B93A", "#9AD0F5", "#E3A3C6", "#A8B0B8")
# Viridis (Smith and van der Walt 2015), without the end that cannot be seen on the page.
RAMP: Final = ("#440154", "#472D7B", "#3B528B", "#2C728E", "#21918C", "#28AE80", "#5EC962", "#8FC93A", "#B8A800")
DARK_RAMP: Final = ("#8A6BC4", "#7B7FD0", "#5F95CF", "#3FA7C2", "#35B7AC", "#4CC98F", "#7AD865", "#B5DE3B", "#FDE725")
# Cividis at 0, 1/8, ..., 1: its lightness rises evenly, also for readers with color blindness. Nunez et al. 2018.
_CIVIDIS: Final = ("#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#fee838")


def blend_color(share: float) -> str:
    """The color of `share`, from 0 to 1, on `_CIVIDIS`, as #rrggbb; smaller and larger ones get that of the end."""
    position = min(max(share, 0.0), 1.0) * (len(_CIVIDIS) - 1)
    low = min(int(position), len(_CIVIDIS) - 2)
    ends = [[int(_CIVIDIS[at][k : k + 2], 16) for k in (1, 3, 5)] for at in (low, low + 1)]
    return "#" + "".join(f"{round(a + (b - a) * (position - low)):02x}" for a, b in zip(*ends, strict=True))
