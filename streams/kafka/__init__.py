"""Kafka: clients, producers, offsets, the schema registry."""
