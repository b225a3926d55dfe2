"""Templates of galaxies' spectral energy distributions."""
