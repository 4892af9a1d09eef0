"""Memory and time of a trial before it runs."""
