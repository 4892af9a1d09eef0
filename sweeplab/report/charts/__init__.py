"""Charts as SVG: one kit of axes, ticks, marks and templates for report, analysis and experiments."""
