"""Tunes the constants of the conventional redshift, and measures its stated probability."""
