"""What travels on the wire: Avro schemas, their dataclasses and the one codec."""

__version__ = "0.1.0"
