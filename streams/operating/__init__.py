"""What operators do: check, account, verify, switch models, back up, rebuild."""
