"""Compare redshifts of a user's tables with spectroscopic ones: ``mmbroker evaluate``."""
