"""One file for each action of the command line, and what the actions share: arguments, errors, suggestions."""
