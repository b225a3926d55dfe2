"""Make and fit templates of galaxies' spectral energy distributions."""
