"""Shows what the broker publishes: streams, the ranked table, explanations of scores."""
