"""Errors that several modules share."""


class InfrastructureError(RuntimeError):
    """Kafka, the schema registry, the store or Triton cannot be used; the message says which.

    Trying again later may help.
    """
