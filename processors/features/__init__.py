"""What a spectrum or a radio map shows: the feature tree that the parser reads off it."""
