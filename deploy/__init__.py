"""Runs the broker: a local Kafka and Triton, the demo, and the files for Prometheus."""
