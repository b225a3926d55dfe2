"""Shows that the broker works: the demo, the benchmark, kills while observations flow."""
