"""Judge recovered lines, and write the report on them."""
