"""What `import sweeplab` offers: studies as data frames, configurations, and one trial for an own Lightning Trainer."""
