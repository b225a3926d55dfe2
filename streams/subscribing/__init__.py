"""Who reads: streams, the ranked table, explanations."""
