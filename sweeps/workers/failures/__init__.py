"""What the errors and deaths of workers say about why an attempt ended."""
