"""Published tables of real galaxies, and how they are split."""
