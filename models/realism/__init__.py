"""Judge how like real galaxies the simulated ones are."""
