"""How like real galaxies the simulated ones are."""
