"""The critic judged: figures and page."""
