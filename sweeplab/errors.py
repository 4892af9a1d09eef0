"""What an error says, for a sentence of ours."""


def first_line(error: BaseException) -> str:
    """The first line of its message; the kind of error where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
