"""What was found: records, and the store that keeps them."""
