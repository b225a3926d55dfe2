"""Makes the pages of the reports from words in templates and numbers in JSON."""
