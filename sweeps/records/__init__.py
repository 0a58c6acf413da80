"""What a sweep writes down and what is read back from it; needs no cluster."""
