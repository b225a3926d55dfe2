"""Makes and fits templates of galaxies' spectral energy distributions."""
