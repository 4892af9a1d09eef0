"""One trial's life: `lifecycle` is the page to read; it calls scoring, short measurements and what a worker holds."""
