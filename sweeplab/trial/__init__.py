"""One trial's life: read `lifecycle` first; it calls scoring, short measurements and the resources of a worker."""
