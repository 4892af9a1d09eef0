"""What an error says, for a sentence of ours."""


def first_line(error: BaseException) -> str:
    """The first line of its message; the kind of error where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def with_kind(error: BaseException) -> str:
    """Such as `ValueError: no number`, of what is said the first line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
