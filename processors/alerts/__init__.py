"""What alert streams say of a galaxy."""
