"""The constants and the probability of the conventional redshift."""
