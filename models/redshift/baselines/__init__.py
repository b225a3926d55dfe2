"""What a learned redshift has to beat."""
