"""The events on the wire: their Avro schemas, their dataclasses and the codec between both."""

__version__ = "0.1.0"
