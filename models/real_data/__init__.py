"""Read published tables of real galaxies, and split them for training and tests."""
