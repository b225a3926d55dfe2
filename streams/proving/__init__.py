"""What proves the broker: the demo, the benchmark, kills under load."""
