"""Makes one fingerprint for each galaxy from its observations."""
