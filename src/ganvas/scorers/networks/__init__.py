"""Networks that scorers are made of."""
