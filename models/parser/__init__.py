"""Train, calibrate and judge the parsers, the networks that read spectra and maps."""
