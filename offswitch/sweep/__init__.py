"""Many organisms from one recipe, on one machine or a Ray cluster, collected in one table."""
