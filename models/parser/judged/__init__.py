"""The networks that read spectra and maps, judged."""
