"""Judge the parsers of spectra and maps, and write the report on them."""
