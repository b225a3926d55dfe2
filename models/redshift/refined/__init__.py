"""Train and export the refined redshift."""
