"""``mmbroker evaluate``: redshifts of real tables beside spectroscopic ones."""
