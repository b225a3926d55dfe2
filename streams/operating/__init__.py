"""What operators do: check, account, verify, switch models, rescore, back up, rebuild."""
