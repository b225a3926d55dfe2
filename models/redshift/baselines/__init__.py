"""Makes the redshift estimators that the refined redshift is compared with."""
