"""Errors that several modules share."""


class InfrastructureError(RuntimeError):
    """Kafka, the schema registry, the store or Triton is away; the message says which.

    Trying again may help.
    """
