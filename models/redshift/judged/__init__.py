"""Judge redshifts, and write the reports on them."""
