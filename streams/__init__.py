"""The broker: stages on Kafka, the store, the command line."""
