"""The first line of an error's message: CUDA's messages go on with advice."""


def error_line(error):
    """The line, or the error's type if the message is empty."""
    return next(iter(str(error).splitlines()), type(error).__name__)
