"""Makes feature trees: what the parser finds in a spectrum or in a radio map."""
