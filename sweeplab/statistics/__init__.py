"""Arrays in, estimates and intervals out; knows nothing of trials."""
