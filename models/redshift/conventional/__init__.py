"""Tune the constants of the conventional redshift, and measure its stated probability."""
