"""The broker: it runs the stages on Kafka, keeps the store and has the command line."""
