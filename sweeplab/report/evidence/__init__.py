"""Records to numbers: settings, spreads, estimates with intervals, and how numbers are written."""
