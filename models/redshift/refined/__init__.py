"""Training of the refined redshift."""
