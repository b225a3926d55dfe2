"""A fingerprint becomes a score: features, evaluations, HyperScore, probability, rank."""
