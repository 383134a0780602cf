"""What is known of a network's structure: which operation computes what from which values."""
