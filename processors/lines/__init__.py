"""Lines: measured, their joint distribution, recovered."""
