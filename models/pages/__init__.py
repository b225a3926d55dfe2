"""The pages of the reports: words in templates, numbers in JSON."""
