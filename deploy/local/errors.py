"""The error that the local stack raises."""


class StackError(RuntimeError):
    """Raised when the stack cannot do what was asked; the message says why and what to do."""
