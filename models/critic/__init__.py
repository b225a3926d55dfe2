"""The network that judges fingerprints: a conditional WGAN-GP."""
